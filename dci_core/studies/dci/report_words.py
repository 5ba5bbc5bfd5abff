"""What the reports are written with: numbers with their intervals, tables, whether a lead is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Summary = Mapping[str, Any]
WORDS = ("DCI is ahead", "DCI is behind", "not decided")
AGAINST = dict(zip(WORDS, ("of ", "", "against "), strict=True))


def text(found: Summary, sign: str = "") -> str:
    """A number with its interval."""
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    rows = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(rows)


def decided(lead: Summary) -> str:
    """Whether the interval leaves zero out."""
    return WORDS[0] if lead["low"] > 0 else WORDS[1] if lead["high"] < 0 else WORDS[2]


def mark(lead: Summary) -> str:
    """A difference with its interval, bold where it is decided."""
    return text(lead, "+") if decided(lead) == WORDS[2] else f"**{text(lead, '+')}**"


def settings_lines(settings: Summary, group: str) -> list[list[str]]:
    """One group's settings."""
    measures = ("likeness", "following", "both")
    return [[name, *(text(numbers[m]) for m in measures)] for name, numbers in settings[group].items()]
