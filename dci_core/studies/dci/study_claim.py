"""The claim on many objects: every dial, published, shifted, plain; apart by whether the base was shown the looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .cells import PictureCell, cells_of
from .dials import Setting, dials, plain, shifted_dials
from .protocol import TEST, Ground, Size
from .tables import Results, Row, rows_of


def groups(size: Size, ground: Ground) -> dict[str, tuple[Setting, ...]]:
    """Plain sampling and every dial."""
    return {"plain": (plain(size.plain),), **dials(size.plain, ground.earlier), **shifted_dials(size.plain)}


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything the study draws."""
    return cells_of(groups(size, ground), size.dials, ground)


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """Plain, and every dial's settings."""
    return rows_of(results, groups(size, ground), size.dials, ground)


def split(size: Size, ground: Ground, results: Results) -> dict[str, list[Row]]:
    """The rows of objects whose looks the base never saw, and of the others; empty where there are none."""
    panel = size.dials
    unseen, seen = ([c for c in panel.concepts if (c in TEST) == held_out] for held_out in (True, False))

    def part(concepts: Sequence[int]) -> list[Row]:
        own = replace(size, dials=replace(panel, concepts=tuple(concepts)))
        return rows(own, ground, results) if concepts else []

    return {"looks the base never saw": part(unseen), "looks in the base's training": part(seen)}
