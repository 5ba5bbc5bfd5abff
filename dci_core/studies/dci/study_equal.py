"""ICO against a fixed template at equal likeness: each along its own training, read where both are as like the concept.

At equal steps ICO is ahead in likeness and behind in following, which says only that it gets along faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .cells import PictureCell, picture_cells
from .dials import Setting
from .protocol import Ground, Size
from .statistics import Array, Spots, following_at, measured
from .study_training import CURVES, curves
from .tables import Results, Row, row_of

FIRST = 20  # a checkpoint before the dials' own, so that the curves reach far enough into following
SHARES = (0.8, 0.9, 0.95)  # of the likeness that both reach


def steps_of(ground: Ground) -> tuple[int, ...]:
    """The checkpoints, rising."""
    return (FIRST, *ground.steps)


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything the study draws."""
    return [
        cell
        for training in curves(ground).values()
        for step in steps_of(ground)
        for cell in picture_cells(size.curve, training, step, size.plain)
    ]


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """A row for each checkpoint of each curve."""
    return [
        row_of(results, name, Setting(f"step {step}", size.plain, step), size.curve, training, ground.main)
        for name, training in curves(ground).items()
        for step in steps_of(ground)
    ]


def at_equal_likeness(found: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Per share of the likeness that both curves reach: what each follows there, and ICO minus the template.

    In every draw anew, along straight lines between the checkpoints of each curve's frontier.
    """
    spots = {
        name: Spots.of([(row.scores.likeness, row.scores.following) for row in found if row.group == name])
        for name in CURVES
    }
    most = np.minimum(*(one.likeness.max(axis=0) for one in spots.values()))
    told = {}
    for share in SHARES:
        ico, template = (follows(spots[name], share * most) for name in CURVES)
        told[f"{share:.0%}"] = {
            "likeness": measured(share * most).row(),
            "ico": measured(ico).row(),
            "fixed_template": measured(template).row(),
            "difference": measured(ico - template).row(),
        }
    return told


def follows(spots: Spots, likeness: Array) -> Array:
    """[1 + draws]: the following of a curve at each draw's likeness."""
    return spots.each(lambda points, draw: following_at(points, float(likeness[draw])))
