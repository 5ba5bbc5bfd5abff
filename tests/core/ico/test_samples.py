"""Samples of a running training: what the finished concept would draw, and no trace in the training."""

from __future__ import annotations

import pytest
import torch

from dci_core.concept.apply import apply_concept
from dci_core.dci.run import sample_latents
from dci_core.errors import SpanNotFound
from dci_core.ico.result import make_concept
from dci_core.ico.samples import SAMPLING, draw_sample
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training, parameters_by_name
from dci_core.ico.train import train_steps
from dci_core.text.prompts import Prompts

from ..toy_model import RARE, ToyModel, toy_data

MODEL, DATA = ToyModel.random(), toy_data()
SHAPE = tuple(DATA.latents.shape[2:])


def trained(samples: bool, steps: int = 4) -> TrainState:
    settings = IcoSettings(steps=steps, learning_rate=1e-2)
    state = begin_training(MODEL, DATA, settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)
    for _ in train_steps(MODEL, DATA, state):
        if samples:
            draw_sample(MODEL, state, shape=SHAPE)
    return state


def test_a_sample_is_what_the_finished_concept_draws() -> None:
    state = trained(False)
    concept = make_concept(state, trigger="sks", rank=None, precision="fp32")
    applied = apply_concept(MODEL, concept)
    for prompt, words in (("a {concept}", "a sks fish"), ("a {concept} in snow", "a sks fish in snow")):
        own = draw_sample(MODEL, state, prompt, shape=SHAPE, seed=3)
        start = torch.zeros(1, *SHAPE)
        usual = sample_latents(
            applied, Prompts.from_text(applied, words), seeds=[3], settings=SAMPLING, start=start
        ).concept
        assert torch.allclose(own, usual, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(own, draw_sample(MODEL, state, "a {concept}", shape=SHAPE, seed=3), atol=1e-3)
    fresh = begin_training(MODEL, DATA, state.settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)
    assert not torch.allclose(own, draw_sample(MODEL, fresh, "a {concept} in snow", shape=SHAPE, seed=3), atol=1e-3)


def test_samples_leave_no_trace_in_the_training() -> None:
    plain, watched = parameters_by_name(trained(False)), parameters_by_name(trained(True))
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_a_prompt_without_the_concept_is_refused() -> None:
    with pytest.raises(SpanNotFound):
        draw_sample(MODEL, trained(False, steps=1), "a fish", shape=SHAPE)
