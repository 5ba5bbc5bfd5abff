"""One subject of an image prompt: how strongly, where, when and in which blocks its reference is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention.joint import BlockId
from ..errors import BadLayers, BadSettings

ITEM = re.compile(r"(?P<stream>[a-z]+)(?:\.?(?P<first>\d+)(?:-(?P<last>\d+))?)?")
MAX_SCALE = 10.0


@dataclass(frozen=True)
class Subject:
    """How one reference is read.

    scale       of what image rows read. Higher: more of the reference; 1 as trained, 0 not at all
    text_scale  of what text rows read, 0..1. Higher: more of what else the reference shows; 1 as in training, 0 as the
                method does at inference (DDS)
    region      [h w] or [b h w] in 0..1 at any size, where image rows read; None: everywhere
    start, end  fractions of the schedule, 0 at its start; the subject is read from start on and before end
    blocks      the blocks that read it; None: every block that the adapter has
    noun        its word in the prompt, for an automatic region; None: none is looked for

    Source: fact 3 for text_scale 0 at inference; scale, region, schedule and blocks: dynaip.md sections 3, 5 and 7,
    reconstruction.
    """

    scale: float = 1.0
    text_scale: float = 0.0
    region: Tensor | None = field(default=None, compare=False)
    start: float = 0.0
    end: float = 1.0
    blocks: frozenset[BlockId] | None = None
    noun: str | None = None

    def __post_init__(self) -> None:
        _check_range("scale", self.scale, 0.0, MAX_SCALE)
        _check_range("text scale", self.text_scale, 0.0, 1.0)
        _check_range("start", self.start, 0.0, 1.0)
        _check_range("end", self.end, 0.0, 1.0)
        if self.end < self.start:
            raise BadSettings(
                f"the subject starts at {self.start:g} and ends at {self.end:g}",
                "an end that is not before the start was expected",
                "exchange the two",
            )
        _check_region(self.region)

    def is_read(self, block: BlockId, percent: float | None = None) -> bool:
        """Whether this block reads the subject at that progress of the schedule (None: at any)."""
        in_time = percent is None or self.start <= percent < self.end or percent == self.end == 1.0
        return in_time and bool(self.scale or self.text_scale) and (self.blocks is None or block in self.blocks)


def read_blocks(text: str, available: Iterable[BlockId]) -> frozenset[BlockId] | None:
    """The blocks that a text names: `all` (None), `double`, `single`, `double0-9 single3`; raises BadLayers."""
    known = tuple(available)
    items = text.lower().replace(",", " ").split()
    if items == ["all"]:
        return None
    found = frozenset(block for item in items for block in _read_item(item, known))
    if not found:
        raise BadLayers("the block text is empty", "at least one item was expected", "write `all`, or `double0-9`")
    return found


def _read_item(item: str, known: tuple[BlockId, ...]) -> list[BlockId]:
    counts = {stream: sum(block.stream == stream for block in known) for stream in {block.stream for block in known}}
    match = ITEM.fullmatch(item)
    named = [block for block in known if match is not None and _is_named(match, block)]
    if not named:
        there = ", ".join(f"{stream}0-{count - 1}" for stream, count in sorted(counts.items()))
        raise BadLayers(f"{item!r} names no block", f"`all` or some of {there} were expected", "correct that item")
    return named


def _is_named(match: re.Match[str], block: BlockId) -> bool:
    if match["stream"] not in (block.stream, "all"):
        return False
    if match["first"] is None:
        return True
    return int(match["first"]) <= block.index <= int(match["last"] or match["first"])


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadSettings(
            f"the subject's {name} is {value:g}", f"a number in {low:g}..{high:g} was expected", "change it"
        )


def _check_region(region: Tensor | None) -> None:
    if region is None:
        return
    if region.ndim not in (2, 3) or 0 in region.shape:
        raise BadSettings(
            f"the subject's region has the shape {tuple(region.shape)}",
            "[height width] or [batch height width] was expected",
            "pass one mask",
        )
    if not bool(torch.isfinite(region).all()) or bool((region < 0).any()) or bool((region > 1).any()):
        raise BadSettings("the subject's region leaves 0..1", "a mask in 0..1 was expected", "draw it again")
