"""Which settings are worth choosing: those that no other beats in likeness and prompt following at once."""

from __future__ import annotations

from collections.abc import Mapping

from .scores import Scores

FOLLOWING = "clip_t"
LIKENESS = ("dino", "clip_i")  # the first that was measured counts


def frontier(settings: Mapping[str, Scores]) -> list[str]:
    """Names of the settings on the frontier, in their order; none where one of the two was not measured."""
    points = {name: point for name, scores in settings.items() if (point := as_point(scores)) is not None}
    return [name for name, point in points.items() if not any(beats(other, point) for other in points.values())]


def as_point(scores: Scores) -> tuple[float, float] | None:
    """(prompt following, likeness), or None."""
    likeness = [scores[name].value for name in LIKENESS if name in scores]
    return (scores[FOLLOWING].value, likeness[0]) if likeness and FOLLOWING in scores else None


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether one is nowhere below the other and somewhere above it."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
