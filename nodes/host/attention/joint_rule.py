"""Runs an `AttentionRule` in the joint attentions of an MM-DiT: the block's own attention, computed anew by the rule.

Each chosen block gets the host's block replacement, around which other packs' replacements go on working; inside it an
attention override shows queries, keys and values after norms and rotary embedding, and takes the rule's answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ....dci_core.attention.call import AttentionRule
from ....dci_core.attention.layers import LayerId
from ....dci_core.families.weight_names import ALONE_STAGES, BLOCK, CONTEXT, JOINT, JOINT_STAGES, LAYER
from ..families.mmdit import token_grid
from .cross import with_rule
from .cross_block import CrossFrame, with_frame
from .joint import CallFrame, Replacement
from .joint_run import JointRun, with_override
from .projections import Projected, projected_by
from .single_stream import with_single_stream

ALL_READ = torch.ones(1)
CALLED = {JOINT: "double", CONTEXT: "double"}  # what the host calls a stage, where we call it otherwise
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
    if any(layer.stage in (LAYER, *ALONE_STAGES) for layer in chosen):
        return with_single_stream(options, chosen, rule, network, token_grid(model, *size))
    if not any(layer.stage in JOINT_STAGES for layer in chosen):
        return with_rule(options, chosen, rule)
    frame = CallFrame(token_grid(model, *size), ALL_READ)
    replaced = dict(options.get("patches_replace", {}))
    slots = dict(replaced.get("dit", {}))
    for layer in chosen:
        key = key_of(layer)
        slots[key] = replacement(layer, rule, frame, projected_by(network, layer), slots.get(key))
    if FIRST not in map(key_of, chosen):
        slots[FIRST] = noting(frame, slots.get(FIRST))
    return {**options, "patches_replace": {**replaced, "dit": slots}}


def key_of(layer: LayerId) -> tuple[str, int]:
    """The host's name of a block's replacement."""
    return f"{CALLED.get(layer.stage, layer.stage)}_block", layer.block


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
            mine: dict[str, Any] = original({**args, "transformer_options": with_override(options, lambda _: run)})
            return mine

        return ruled(args) if previous is None else previous(args, {**extra, "original_block": ruled})

    return replace
