"""Dials tried on development concepts: each has four settings, and is compared with today's from the same draws."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dci_core.studies.dci import study_dial
from dci_core.studies.dci.cells import key_of
from dci_core.studies.dci.dials import Way
from dci_core.studies.dci.protocol import GROUND, QUICK, Panel
from dci_core.studies.dci.study_dial import STRENGTH, TODAY, compared

SIZE = replace(QUICK, candidates=Panel((0, 1), (0,), (0, 4)))


def likeness_of(way: Way) -> float:
    """A made-up likeness under which a shifted strength of 2 costs nothing, and whatever else acts a tenth."""
    if way.dci is not None and way.dci.form == "shift" and way.dci.strength == 2 and way.is_everywhere:
        return 0.8
    return 0.7 if way != SIZE.plain else 0.8


def test_dials_have_four_settings_and_are_compared_with_todays() -> None:
    found = study_dial.groups(SIZE)
    assert {len(settings) for name, settings in found.items() if name != "plain"} == {4}
    results = {}
    for cell in study_dial.cells(SIZE, GROUND):
        like, follows = likeness_of(cell.way), 0.5 if cell.way == SIZE.plain else 0.9
        names = {"likeness": like, "following": follows, "has_all": 1.0, "has_noun": 1.0}
        results[key_of(cell)] = {name: [[value], [value]] for name, value in names.items()}
    rows = study_dial.rows(SIZE, GROUND, results)
    assert len(rows) == 1 + 4 * (len(found) - 1)
    told = compared(rows)
    assert set(told) == set(found) - {"plain"}
    best = told["DCI shifted, window at strength 2"]
    assert best["reached"]["following"]["value"] == pytest.approx(0.9)  # at plain likeness
    assert told[TODAY]["reached"]["following"]["value"] == pytest.approx(0.5 + 0.4 * 0.4)  # 0.76 lies 0.4 of the way
    assert best["minus today's"]["following"]["value"] == pytest.approx(0.24)
    assert best["minus concept strength"]["hypervolume"]["value"] == pytest.approx(0.9 * 0.8 - (0.8 * 0.5 + 0.7 * 0.4))
    assert told[STRENGTH]["minus concept strength"] == {
        name: {"value": 0.0, "low": 0.0, "high": 0.0} for name in ("hypervolume", "following")
    }


def test_own_words_are_a_way_of_their_own_and_everywhere_is_what_it_was() -> None:
    keys = {key_of(cell) for cell in study_dial.cells(SIZE, GROUND)}
    base = SIZE.plain
    assert len({repr(s.way) for settings in study_dial.groups(SIZE).values() for s in settings}) * 2 == len(keys)
    assert replace(base, common=0.0).is_everywhere is False and base.is_everywhere
