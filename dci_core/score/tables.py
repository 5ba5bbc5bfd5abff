"""Scores as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .scores import NAMES, References, Scores

REFERENCES = "references"
COLUMN = 24  # letters of a cell


def table(scores: Mapping[str, Scores], real: References, best: Sequence[str]) -> str:
    """A line for each setting and one for the references among themselves; `*` marks the settings on the frontier."""
    names = [name for name in NAMES if name in next(iter(scores.values()))]
    wide = max(len(name) for name in (*scores, REFERENCES)) + 2
    lines = [" " * wide + "".join(f"{NAMES[name]:{COLUMN}}" for name in names)]
    for setting, found in scores.items():
        cells = "".join(f"{cell(found[name].value, found[name].low, found[name].high):{COLUMN}}" for name in names)
        lines.append(f"{setting:{wide}}{cells}{'*' if setting in best else ''}")
    ceiling = real.ceiling()
    lines.append(f"{REFERENCES:{wide}}" + "".join(f"{cell(ceiling.get(name)):{COLUMN}}" for name in names))
    if best:
        lines.append("* nothing else here is better in likeness and in prompt following")
    return "\n".join(line.rstrip() for line in lines)


def cell(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`0.312 [0.301, 0.322]`, the interval where there is one."""
    if value is None:
        return ""
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
