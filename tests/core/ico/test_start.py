"""A training that starts from a finished concept draws what it draws, and goes on learning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dci_core.errors import BadConcept, BadSettings
from dci_core.ico.result import make_concept
from dci_core.ico.samples import draw_sample
from dci_core.ico.settings import IcoSettings
from dci_core.ico.start import start_from
from dci_core.ico.state import TrainState, begin_training
from dci_core.ico.train import train_steps

from ..toy_model import RARE, ToyModel, toy_data

MODEL, DATA = ToyModel.random(), toy_data()
SHAPE = tuple(DATA.latents.shape[2:])


def fresh(rank: int | None = None, **changes: int) -> TrainState:
    settings = IcoSettings(steps=3, learning_rate=1e-2, rank=rank, **changes)
    return begin_training(MODEL, DATA, settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)


def trained(state: TrainState) -> TrainState:
    list(train_steps(MODEL, DATA, state))
    return state


FIRST = trained(fresh())
WHOLE = make_concept(FIRST, trigger="sks", rank=None, precision="fp32")


@pytest.mark.parametrize(("rank", "kept"), [(None, None), (None, 4), (8, None), (8, 4), (16, 8)])
def test_it_begins_where_the_concept_ended(monkeypatch: pytest.MonkeyPatch, rank: int | None, kept: int | None) -> None:
    monkeypatch.setattr("dci_core.ico.start.family_widths", lambda family: MODEL.kv_shapes())
    concept = make_concept(FIRST, trigger="sks", rank=kept, precision="fp32")
    state = fresh(rank)
    empty = draw_sample(MODEL, state, shape=SHAPE)
    start_from(state, concept)
    if kept != 4:  # nothing was lost
        assert torch.allclose(draw_sample(MODEL, state, shape=SHAPE), draw_sample(MODEL, FIRST, shape=SHAPE), atol=1e-2)
    began = make_concept(state, trigger="sks", rank=None, precision="fp32")
    for key, change in concept.weights().items():
        assert torch.allclose(began.weights()[key], change, atol=1e-5)
    assert not torch.allclose(draw_sample(MODEL, state, shape=SHAPE), empty, atol=1e-3)
    after = make_concept(trained(state), trigger="sks", rank=None, precision="fp32")
    assert all(not torch.equal(after.weights()[key], change) for key, change in began.weights().items())


def test_a_concept_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConcept, match="is for sd15"):
        start_from(fresh(), replace(WHOLE, family="sd15"))
    monkeypatch.setattr("dci_core.ico.start.family_widths", lambda family: MODEL.kv_shapes())
    with pytest.raises(BadSettings, match="3 modifier tokens; 2 are expected"):
        start_from(fresh(modifier_tokens=2), WHOLE)
    with pytest.raises(BadSettings, match="has 3 steps"):
        start_from(trained(fresh()), WHOLE)
