"""Training on the small world's own shapes: the rule in training and the patched copy draw the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dci_core.concept.apply import apply_concept
from dci_core.concept.learned import Concept
from dci_core.errors import BadConcept
from dci_core.ico.contexts import ContextWords, LearnedText
from dci_core.ico.data import TrainingData
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training, family_widths, lay_out_all
from dci_core.ico.train import train_steps
from dci_core.text.captions import encode_captions, read_caption
from dci_core.tiny.model import TinyModel

MODEL = TinyModel.random()
SOURCE = torch.Generator().manual_seed(4)
SETTINGS = IcoSettings(steps=2, batch=1, learning_rate=1e-2, modifier_tokens=2)


@pytest.fixture(scope="module")
def state() -> TrainState:
    data = TrainingData(torch.randn(2, 2, 8, 16, 16, generator=SOURCE))
    state = begin_training(MODEL, data, SETTINGS, noun="fish", rare_tokens={"clip_l": (5, 6, 7)})
    list(train_steps(MODEL, data, state))
    return state


@pytest.fixture(scope="module")
def concept(state: TrainState) -> Concept:
    return make_concept(state, trigger="sks", rank=None, precision="fp32")


def test_the_familys_table_has_the_models_widths() -> None:
    assert family_widths("tiny") == MODEL.kv_shapes()


def test_the_applied_concept_draws_what_was_trained(state: TrainState, concept: Concept) -> None:
    applied = apply_concept(MODEL, concept)
    x, sigma = torch.randn(1, 8, 16, 16, generator=SOURCE), torch.tensor([2.0])
    with torch.no_grad():
        text = encode_captions(applied, ["a sks fish in snow"])
        patched = applied.denoise(x, sigma, text)
        plain = MODEL.denoise(x, sigma, text)
        ruled = MODEL.denoise(x, sigma, text, state.learned.deltas.rule())
    assert torch.allclose(patched, ruled, atol=1e-4) and not torch.allclose(patched, plain, atol=1e-2)


def test_the_trigger_in_a_prompt_gives_the_rows_of_training(state: TrainState, concept: Concept) -> None:
    applied = apply_concept(MODEL, concept)
    encoder = applied.encoders["clip_l"]
    prompted = encoder.embed(encoder.frame(encoder.tokenize("a sks fish in snow")))
    layout = lay_out_all(MODEL, read_caption("a {concept} in snow"), "fish", replace(SETTINGS, contexts=False))
    fixed = LearnedText(MODEL.encoders, [layout], {"clip_l": (5, 6)}, 2, ContextWords(0, 0), SOURCE)
    with torch.no_grad():
        fixed.tokens["clip_l"].copy_(state.learned.text.tokens["clip_l"])
        assert torch.equal(fixed.rows([0], [layout])[0]["clip_l"][0], prompted)


def test_a_concept_of_another_width_is_refused(concept: Concept) -> None:
    wide = replace(concept, tokens={"clip_l": torch.zeros(2, 768)})
    with pytest.raises(BadConcept, match="wide"):
        apply_concept(MODEL, wide)
