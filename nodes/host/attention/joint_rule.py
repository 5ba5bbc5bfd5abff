"""Runs an `AttentionRule` in the joint attentions of an MM-DiT: the block's own attention, computed anew by the rule.

Each chosen block gets the host's block replacement, around which other packs' replacements go on working; inside it an
attention override shows queries, keys and values after norms and rotary embedding, and takes the rule's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....dci_core.attention.call import AttentionCall, AttentionRule, split_heads
from ....dci_core.attention.layers import LayerId
from ....dci_core.attention.rows import TokenRows
from ....dci_core.families.weight_names import BLOCK, JOINT_STAGES
from ..families.mmdit import token_grid
from .cross import with_rule
from .cross_block import CrossFrame, with_frame
from .joint import OVERRIDE, CallFrame, Replacement
from .projections import Projected, projected_by

ALL_READ = torch.ones(1)
FIRST = ("double_block", 0)  # where the text's length is seen in every model of this layout


def with_attention_rule(
    options: dict[str, Any], layers: Iterable[LayerId], rule: AttentionRule, model: Any, size: tuple[int, int]
) -> dict[str, Any]:
    """A copy of the transformer options in which the rule acts in these layers, cross or joint.

    model  the host's, whose network is about to run
    size   (height, width) of the latents
    """
    chosen, network = list(layers), model.diffusion_model
    if blocks := [layer for layer in chosen if layer.stage == BLOCK]:
        watched = {layer.block: projected_by(network, layer) for layer in blocks}
        return with_frame(options, CrossFrame(rule, token_grid(model, *size), watched))
    if not any(layer.stage in JOINT_STAGES for layer in chosen):
        return with_rule(options, chosen, rule)
    frame = CallFrame(token_grid(model, *size), ALL_READ)
    replaced = dict(options.get("patches_replace", {}))
    slots = dict(replaced.get("dit", {}))
    for layer in chosen:
        key = (f"{layer.stage}_block", layer.block)
        slots[key] = replacement(layer, rule, frame, projected_by(network, layer), slots.get(key))
    if FIRST not in [(f"{layer.stage}_block", layer.block) for layer in chosen]:
        slots[FIRST] = noting(frame, slots.get(FIRST))
    return {**options, "patches_replace": {**replaced, "dit": slots}}


def noting(frame: CallFrame, previous: Replacement | None) -> Replacement:
    """A block replacement that changes nothing and tells the frame how long the text is."""

    def replace(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        if "txt" in args:
            frame.note_text(args)
        out: dict[str, Any] = extra["original_block"](args) if previous is None else previous(args, extra)
        return out

    return replace


def replacement(
    layer: LayerId, rule: AttentionRule, frame: CallFrame, projected: Projected | None, previous: Replacement | None
) -> Replacement:
    """The host's block replacement; `previous` held the slot and runs around ours."""

    def replace(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        original = extra["original_block"]

        def ruled(args: dict[str, Any]) -> dict[str, Any]:
            text, total = frame.text, args["img"].shape[1]
            if "txt" in args:
                frame.note_text(args)
                text, total = frame.text, total + frame.text
            options = args.get("transformer_options") or {}
            run = JointRun(layer, rule, frame.rows(text, total, False), total, frame.grid, projected, args.get("pe"))
            mine: dict[str, Any] = original({**args, "transformer_options": with_override(options, run)})
            return mine

        return ruled(args) if previous is None else previous(args, {**extra, "original_block": ruled})

    return replace


@dataclass(frozen=True, eq=False)
class JointRun:
    """One run of one block.

    total      rows of the joint sequence; attentions over fewer rows are none of ours
    projected  the text's keys and values before the norms, where a training shows them
    pe         the rotary embedding of the joint sequence
    """

    layer: LayerId
    rule: AttentionRule
    rows: TokenRows
    total: int
    grid: tuple[int, int]
    projected: Projected | None
    pe: Tensor | None

    def call(self, q: Tensor, k: Tensor, v: Tensor, heads: int, attend: Callable[..., Tensor]) -> AttentionCall:
        """The attention as the rule sees it; q, k, v [b n (heads d)], attend over the same."""
        context, project = k[:, self.rows.text], None
        if self.projected is not None and self.projected.seen is not None:
            context, project = self.projected.rows, self.projected.changing(k, v, self.rows.text, self.pe)
        return AttentionCall(q, k, v, context, heads, self.grid, self.layer, attend, self.rows, project)


def with_override(options: dict[str, Any], run: JointRun) -> dict[str, Any]:
    """Transformer options of one run of one block, in which the rule computes its joint attention."""
    previous = options.get(OVERRIDE)

    def override(attend: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rest = (q, k, v, *args[3:])
            return attend(*rest, **kwargs) if previous is None else previous(attend, *rest, **kwargs)

        q, k, v = args[:3]
        heads, is_split = args[3] if len(args) > 3 else kwargs["heads"], bool(kwargs.get("skip_reshape"))
        if q.shape[2 if is_split else 1] != run.total:
            return plain(q, k, v)
        if not is_split:
            return run.rule(run.call(q, k, v, heads, lambda q, k, v, _: plain(q, k, v)))
        flat = (x.transpose(1, 2).flatten(2) for x in (q, k, v))  # b n (heads d)
        return run.rule(run.call(*flat, heads, lambda *qkv: plain(*(split_heads(x, heads) for x in qkv[:3]))))

    return {**options, OVERRIDE: override}
