"""Where an object came to be, and whether that is where a box asked it to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dci_core.studies.dci import study_layout
from dci_core.studies.dci.cells import key_of
from dci_core.studies.dci.protocol import GROUND, QUICK, Panel
from dci_core.studies.dci.report_trials import layout_section
from dci_core.studies.dci.study_layout import LayoutCell, TrueCentreCell, edges, is_in

SIZE = replace(QUICK, anatomy=Panel((8, 9), (0, 1), (0, 4)))


def test_a_masks_edges_are_shares_of_its_picture() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 10:20] = True
    box = edges(mask)
    assert box == pytest.approx((0.5, 0.2, 0.5, 0.3))
    assert is_in((0.75, 0.3), box) and not is_in((0.25, 0.3), box) and not is_in((0.75, 0.6), box)


def played(cell: LayoutCell | TrueCentreCell) -> dict[str, Any]:
    """Without a box everything stands in the top left; with one, where it was asked, but never at the bottom."""
    if isinstance(cell, TrueCentreCell):
        return {"on_object": [1.0, 1.0, 1.0, 0.0]}
    x = {"right": 0.8}.get(cell.box, 0.2)
    likeness = 0.9 if cell.box else 0.8
    one = {"x": x, "y": 0.3, "likeness": likeness, "following": 1.0, "has_noun": 1.0, "has_all": 1.0}
    return {name: [[value] * 2] * 2 for name, value in one.items()}


def test_a_picture_without_a_box_counts_for_every_box() -> None:
    results = {key_of(cell): played(cell) for cell in study_layout.cells(SIZE, GROUND)}
    found = study_layout.numbers(SIZE, GROUND, results)
    assert found["centre_on_object"] == 0.75 and set(found["ways"]) == {"plain", "DCI"}
    hit = found["ways"]["plain"]["hit"]
    assert hit["without"]["value"] == 0.5 and hit["with"]["value"] == 0.75
    assert hit["difference"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert found["ways"]["DCI"]["hit by box"]["bottom"]["value"] == 0.0
    assert found["ways"]["DCI"]["likeness"]["difference"]["value"] == pytest.approx(0.1)
    told = layout_section(found)
    assert (
        "2 of the objects, every prompt, seeds: 2." in told
        and "lies in the object's bounds in 75%" in told
        and "**+0.250 [+0.250, +0.250]**" in told
    )
