"""ICO and the fixed template are compared where both are as like the concept, not at equal steps."""

from __future__ import annotations

import numpy as np
import pytest

from dci_core.studies.dci import study_equal
from dci_core.studies.dci.protocol import GROUND, QUICK
from dci_core.studies.dci.study_equal import at_equal_likeness
from dci_core.studies.dci.tables import Row, Scores


def row(curve: str, likeness: float, following: float) -> Row:
    found = [np.full((3, 2, 1), value) for value in (likeness, following, 0.0, 1.0)]
    return Row(curve, f"at {likeness}", Scores(*found), None)


def test_a_curve_that_is_only_faster_is_not_ahead() -> None:
    slow = [(0.2, 1.0), (0.4, 0.9), (0.8, 0.5)]
    fast = [(0.4, 0.9), (0.8, 0.5), (0.9, 0.1)]  # further along the same line at every step
    told = at_equal_likeness([*(row("ico", *p) for p in fast), *(row("fixed_template", *p) for p in slow)])
    for share in ("80%", "90%", "95%"):
        assert told[share]["difference"]["value"] == pytest.approx(0)
    assert told["90%"]["likeness"]["value"] == pytest.approx(0.72)  # of the 0.8 that both reach
    assert told["90%"]["ico"]["value"] == pytest.approx(0.58)


def test_a_curve_above_the_other_is_ahead() -> None:
    told = at_equal_likeness([row("ico", 0.8, 0.7), row("fixed_template", 0.8, 0.5), row("fixed_template", 0.4, 0.6)])
    assert told["95%"]["difference"]["value"] == pytest.approx(0.7 - (0.5 + 0.1 * 0.1))
    assert told["80%"]["difference"]["low"] > 0


def test_every_checkpoint_of_both_is_drawn_once() -> None:
    cells = study_equal.cells(QUICK, GROUND)
    assert len(cells) == len(set(cells)) == 2 * len(study_equal.steps_of(GROUND)) * len(QUICK.curve.concepts)
