"""Other forms of DCI on development concepts: how sure a map is, and which noun that chooses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dci_core.studies.dci import study_forms
from dci_core.studies.dci.cells import key_of
from dci_core.studies.dci.protocol import GROUND, QUICK, Panel
from dci_core.studies.dci.study_forms import NOUN, minus_default
from dci_core.studies.dci.sure_nouns import LOOKS, SureNounCell, sureness, surest
from dci_core.tiny.world.words import AUXILIARY_NOUNS

SIZE = replace(QUICK, candidates=Panel((0, 1), (0,), (0, 4)))


def test_a_map_is_as_sure_as_its_place_is_small() -> None:
    even, one, quarter = torch.zeros(3, 1, 1, 64)
    even += 0.2
    one[..., 3] = 0.7
    quarter[..., :16] = 0.1
    assert float(sureness(even)[0]) == pytest.approx(0, abs=1e-6)
    assert float(sureness(one)[0]) == pytest.approx(math.log(64), abs=1e-6)
    assert float(sureness(quarter)[0]) == pytest.approx(math.log(4), abs=1e-6)


def test_the_surest_noun_is_chosen_per_prompt_over_all_seeds() -> None:
    found = {
        "cat": [[[0.1, 3.0], [0.1, 3.0]], [[0.5, 0.0], [0.5, 0.0]]],
        "star": [[[0.9, 1], [0.2, 1]], [[0.4, 1], [0.4, 1]]],
    }
    assert surest(found, 0) == ["star", "cat"] and surest(found, 1) == ["cat", "star"]


def test_rows_take_each_prompt_from_the_pictures_of_its_own_noun() -> None:
    results = {}
    for cell in study_forms.cells(SIZE, GROUND):
        if isinstance(cell, SureNounCell):
            sure = {"cat": (1.0, 0.0), "star": (0.0, 2.0), "heart": (0.5, 0.5)}[cell.noun]
            results[key_of(cell)] = {"sureness": [[[value] * LOOKS] for value in sure]}
        else:
            value = {"cat": 0.2, "star": 0.6, "heart": 0.9}[cell.way.auxiliary] if cell.way.dci else 0.0
            names = ("likeness", "following", "has_all", "has_noun")
            results[key_of(cell)] = {name: [[value], [value + 0.05]] for name in names}
    rows = study_forms.rows(SIZE, GROUND, results)
    chosen = [row for row in rows if row.group == NOUN]
    assert [row.name for row in chosen[: len(AUXILIARY_NOUNS) - 1]] == ["star", "heart"]
    assert len(chosen) == len(AUXILIARY_NOUNS) - 1 + LOOKS
    for row in chosen[-LOOKS:]:  # the first prompt with the cat, the second with the star
        np.testing.assert_allclose(row.scores.likeness[..., 0], [[0.2, 0.65]] * 2)
        assert row.low_prior is not None and row.low_prior.likeness.shape == (2, 1, 1)
    beside = minus_default(rows)
    assert beside["default"]["DCI at its defaults"]["likeness"]["value"] == 0
    assert beside[NOUN]["star"]["likeness"]["value"] == pytest.approx(0.4)
