"""Runs a `JointRule` in the blocks of an MM-DiT, through the hooks that the host offers for them.

Each chosen block gets the host's block replacement, around which other packs' replacements go on working. It runs the
block itself with two more entries in the transformer options: an attention patch, in which newer hosts show the
queries before their rotary embedding, and an attention override, which sees the output before the projection. Where no
patch came by, the queries are the override's own with the rotation taken off again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ....dci_core.attention.joint import BlockId, JointCall, JointRule
from ....dci_core.attention.rows import TokenRows
from .rotary import before_rotary

Replacement = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
OVERRIDE = "optimized_attention_override"
PATCH = "attn1_patch"  # shows queries before the rotary embedding, on hosts that have it
ATTENTION, STREAM = "attention", "stream"  # where a rule's result is added


@dataclass(frozen=True)
class Site:
    """One block of a model and what is to happen there.

    rules           (rule, place), place "attention": added to the attention's output before its projection; "stream":
                    to the image stream behind the block
    is_image_first  whether the block puts image rows before text rows
    wants_keys      whether a rule looks at the text rows' keys
    """

    rules: tuple[tuple[JointRule, str], ...]
    is_image_first: bool = False
    wants_keys: bool = False


@dataclass(eq=False)
class CallFrame:
    """What one model call tells all its blocks.

    grid        (h, w) of the picture's own image tokens; rows of reference latents follow them
    reads       [b] on the CPU, 1 where a row of the batch reads references, 0 where it never does
    text        number of text rows, noted when the call gets there
    is_reached  whether a block's attention came by; it does not where another node runs the model in a way of its own
    """

    grid: tuple[int, int]
    reads: Tensor
    text: int = 0
    is_reached: bool = False

    def note_text(self, args: dict[str, Any]) -> dict[str, Any]:
        """The host's `post_input` patch; changes nothing."""
        self.text = args["txt"].shape[1]
        return args

    def rows(self, text: int, total: int, is_image_first: bool) -> TokenRows:
        """Where text and the picture's own tokens lie in a joint sequence."""
        own = self.grid[0] * self.grid[1]
        if is_image_first:
            return TokenRows(text=slice(total - text, total), image=slice(0, own))
        return TokenRows.text_first(text, own)


@dataclass(eq=False)
class BlockRun:
    """One run of one block: its queries as they come by, and what is to be added to the stream behind it.

    total   rows of the joint sequence; attentions over fewer rows (SD 3.5 has a second one) are none of ours
    shown   queries and keys before the rotary embedding, on hosts that show them
    behind  what is to be added to the stream
    """

    block: BlockId
    site: Site
    frame: CallFrame
    rows: TokenRows
    total: int
    shown: tuple[Tensor, Tensor] | None = None
    is_done: bool = False
    behind: list[Tensor] = field(default_factory=list)

    def note(self, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """The host's `attn1_patch`; changes nothing."""
        self.shown = q, k
        return {}

    def call(self, q: Tensor, k: Tensor, pe: Tensor | None) -> JointCall:
        """What the rules may read; q, k [b heads n d] as the attention got them."""
        q, k = self.shown or (before_rotary(q, pe), k)
        keys = None
        if self.site.wants_keys:
            plain = k if self.shown else before_rotary(k, pe)
            keys = plain[:, :, self.rows.text]
        return JointCall(q, self.rows, self.block, self.frame.grid, self.frame.reads, keys)

    def after_attention(self, out: Tensor, q: Tensor, k: Tensor, pe: Tensor | None) -> Tensor:
        """The attention's output [b n c] with what the rules add there; q, k as for `call`."""
        if self.is_done or q.shape[2] != self.total:
            return out
        self.is_done = self.frame.is_reached = True
        call = self.call(q, k, pe)
        for rule, place in self.site.rules:
            delta = rule(call)
            if delta is not None and place == STREAM:
                self.behind.append(delta)
            elif delta is not None:
                out = out + delta.to(out)
        return out

    def after_block(self, out: dict[str, Any], is_joint: bool) -> dict[str, Any]:
        """The block's result with what the rules add to the image stream."""
        for delta in self.behind:
            stream = out["img"].clone()
            where = self.rows.image if is_joint else slice(0, self.rows.image_count)
            stream[:, where] += delta[:, self.rows.image].to(stream)
            out = {**out, "img": stream}
        return out


def with_sites(options: dict[str, Any], frame: CallFrame, sites: Mapping[BlockId, Site]) -> dict[str, Any]:
    """A copy of the transformer options in which the rules act, around whatever already holds each block's slot."""
    replaced = dict(options.get("patches_replace", {}))
    slots = dict(replaced.get("dit", {}))
    for block, site in sites.items():
        key = (f"{block.stream}_block", block.index)
        slots[key] = replacement(block, site, frame, slots.get(key))
    patches = dict(options.get("patches", {}))
    patches["post_input"] = [*patches.get("post_input", []), frame.note_text]
    return {**options, "patches": patches, "patches_replace": {**replaced, "dit": slots}}


def replacement(block: BlockId, site: Site, frame: CallFrame, previous: Replacement | None) -> Replacement:
    """The host's block replacement; `previous` held the slot and runs around ours."""

    def replace(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        original = extra["original_block"]

        def watched(args: dict[str, Any]) -> dict[str, Any]:
            is_joint = "txt" not in args
            total = args["img"].shape[1] + (0 if is_joint else args["txt"].shape[1])
            text = frame.text if is_joint else args["txt"].shape[1]
            rows = frame.rows(text, total, site.is_image_first)
            run = BlockRun(block, site, frame, rows, total)
            options = with_watch(args.get("transformer_options") or {}, run, args.get("pe"))
            return run.after_block(original({**args, "transformer_options": options}), is_joint)

        return watched(args) if previous is None else previous(args, {**extra, "original_block": watched})

    return replace


def with_watch(options: dict[str, Any], run: BlockRun, pe: Tensor | None) -> dict[str, Any]:
    """Transformer options of one run of one block, in which that run sees its attention."""
    patches = dict(options.get("patches", {}))
    patches[PATCH] = [*patches.get(PATCH, []), run.note]
    previous = options.get(OVERRIDE)

    def override(attend: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        out = attend(*args, **kwargs) if previous is None else previous(attend, *args, **kwargs)
        q, k, heads = args[0], args[1], args[3] if len(args) > 3 else kwargs["heads"]
        if not kwargs.get("skip_reshape"):
            q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
        return run.after_attention(out, q, k, pe)

    return {**options, "patches": patches, OVERRIDE: override}
