"""The rank that key/value changes are trained at, and how much faster their factors learn."""

from __future__ import annotations

from ..concept.deltas import Widths
from ..errors import BadSettings

AUTO, FULL = "auto", "full"
CHOICES = (AUTO, FULL, "4", "8", "16", "32", "64", "128")
SMALL_NUMBERS = 50_000_000  # changes of SD 1.x are 19 million numbers, of SDXL 341 million
LARGE_RANK = 32


def choose_rank(asked: str, widths: Widths) -> int | None:
    """Factors of each change, or None for full rank; `auto`: full where that is small, else 32. Raises BadSettings."""
    if asked == FULL:
        return None
    if asked == AUTO:
        total = 2 * sum(inner * context for inner, context in widths.values())
        return None if total <= SMALL_NUMBERS else LARGE_RANK
    if not asked.isdecimal() or int(asked) < 1:
        raise BadSettings(f"the rank is {asked!r}", "auto, full or a number from 1 is expected", "choose auto")
    return int(asked)


def rank_rate(rank: int | None, widths: Widths) -> float:
    """How many times faster factors must learn to change as much as a full change does: text width / rank.

    With `down` of size 1 / sqrt(width), a step of AdamW lowers the loss by about rank / width of a full step.
    Measured on the tiny world (width 128): docs/performance.md.
    """
    if rank is None:
        return 1.0
    return max(1.0, min(context for _, context in widths.values()) / rank)
