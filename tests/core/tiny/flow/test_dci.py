"""DCI on the tiny flow world: joint attention, the window in the flow's own time, guidance; off is the plain run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall, AttentionRule
from dci_core.attention.layers import LayerId, LayerMask
from dci_core.attention.rows import TokenRows
from dci_core.concept.apply import apply_concept
from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.learned import Concept
from dci_core.dci.branches import DciSettings, usual_guidance
from dci_core.dci.dbim import DbimSettings, dbim_rule
from dci_core.dci.maps import BranchRows
from dci_core.dci.replay import Replay
from dci_core.dci.run import Sampled, SampleSettings, sample_latents, sample_swapped
from dci_core.errors import BadLayers, BadSettings
from dci_core.families.table import find_family
from dci_core.model import Text
from dci_core.noise.flow_schedule import FlowSchedule
from dci_core.text.prompts import Prompts
from dci_core.text.tokens import PairTokens, PromptPair, TokenSet
from dci_core.tiny.flow.concept_model import TinyFlowModel
from dci_core.tiny.flow.sampling import FlowSettings, sample_flow

BASE = TinyFlowModel.random(1)
FAMILY = find_family("tiny_flow")
STEPS = SampleSettings(num_steps=4, cfg=3.5, sampler="euler")
DCI = DciSettings(window=0.5, guidance="aligned")


def some_concept() -> Concept:
    g = torch.Generator().manual_seed(2)
    deltas = {
        layer: LayerDelta(*(Delta(torch.randn(192, 192, generator=g) * 0.03) for _ in range(2)))
        for layer in FAMILY.learned_layers
    }
    return Concept("tiny_flow", "sks", "fish", {"clip_l": torch.randn(2, 128, generator=g) * 0.1}, deltas)


MODEL = apply_concept(BASE, some_concept())


def pair(auxiliary: str = "cat", model: TinyFlowModel = MODEL) -> Prompts:
    template, encoder = "a {concept} in snow", model.encoders["clip_l"]
    made = PromptPair.from_template(template, trigger="sks", noun="fish", auxiliary=auxiliary, encoder=encoder)
    return Prompts.from_pair(model, made)


def sampled(dci: DciSettings | None = None, settings: SampleSettings = STEPS, **more: Any) -> Sampled:
    with torch.no_grad():
        return sample_latents(MODEL, pair(), seeds=[3, 4], settings=settings, dci=dci, **more)


def test_plain_sampling_is_the_flows_own() -> None:
    with torch.no_grad():
        ours = sample_latents(BASE, Prompts.from_text(BASE, "a fish in snow"), seeds=[3, 4], settings=STEPS)
        theirs = sample_flow(BASE.flow, ["a fish in snow"], seeds=[3, 4], settings=FlowSettings(num_steps=4))
    torch.testing.assert_close(ours.concept, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("off", [{"window": 0.0}, {"layers": LayerMask("all:0")}])
def test_off_is_the_plain_run_bit_for_bit(off: Mapping[str, Any]) -> None:
    assert torch.equal(sampled(replace(DCI, **off)).concept, sampled().concept)


def test_an_open_window_blends_in_every_block_asked_for() -> None:
    run = sampled(DCI, records_weights=True)
    assert not torch.allclose(run.concept, sampled().concept, atol=1e-2)
    assert {found.layer for found in run.weights} == set(FAMILY.layers)
    assert all(found.weights.shape == (2, 8, 8) for found in run.weights)
    some = sampled(replace(DCI, layers=LayerMask("double1 single2-3:0.5")), records_weights=True)
    asked = [LayerId("double", 1), LayerId("single", 2), LayerId("single", 3)]
    assert list(dict.fromkeys(found.layer for found in some.weights)) == asked
    with pytest.raises(BadLayers, match="double0 double1 single0"):
        sampled(replace(DCI, layers=LayerMask("in4")))


def test_the_window_is_a_share_of_the_flows_even_time() -> None:
    schedule = FAMILY.schedule
    assert isinstance(schedule, FlowSchedule) and schedule.shift == 1.5
    times = schedule.spaced("normal", 10)
    for window, acts in ((0.2, 2), (0.5, 5), (1.0, 10)):
        levels = {
            found.sigma
            for found in sampled(
                replace(DCI, window=window), replace(STEPS, num_steps=10), records_weights=True
            ).weights
        }
        assert levels == set(times[:acts])
    assert schedule.threshold(0.3) == pytest.approx(1.5 * 0.7 / (1 + 0.5 * 0.7)) and schedule.threshold(0) == math.inf
    with pytest.raises(BadSettings, match="the window is 2"):
        schedule.threshold(2)


def test_branches_without_a_difference_leave_the_plain_run() -> None:
    same = replace(pair(), auxiliary=pair().concept)
    with torch.no_grad():
        both = sample_latents(MODEL, same, seeds=[3], settings=STEPS, dci=DCI)
        plain = sample_latents(MODEL, same, seeds=[3], settings=STEPS)
    torch.testing.assert_close(both.concept, plain.concept, atol=1e-3, rtol=1e-3)


class Counting:
    """The model, noting the rows of every call."""

    def __init__(self) -> None:
        self.family, self.layers, self.encoders = MODEL.family, MODEL.layers, MODEL.encoders
        self.encode, self.rows = MODEL.encode, list[int]()

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        self.rows.append(len(x))
        return MODEL.denoise(x, sigma, text, rule)


@pytest.mark.parametrize(("guidance", "rows"), [("shared", [3, 3, 2, 2]), ("separate", [4, 4, 2, 2])])
def test_guidance_runs_the_rows_that_it_says(guidance: Any, rows: list[int]) -> None:
    model = Counting()
    with torch.no_grad():
        run = sample_latents(model, pair(), seeds=[3], settings=STEPS, dci=replace(DCI, guidance=guidance))
    assert model.rows == rows and run.warnings == ()  # the spring's factor is a diffusion's


def test_without_guidance_shared_is_separate() -> None:
    alone = replace(STEPS, cfg=1.0)
    shared, separate = (sampled(replace(DCI, guidance=how), alone).concept for how in ("shared", "separate"))
    assert torch.equal(shared, separate) and not torch.equal(shared, sampled(None, alone).concept)
    assert not torch.equal(
        sampled(replace(DCI, guidance="shared")).concept, sampled(replace(DCI, guidance="separate")).concept
    )


def test_halves_in_calls_of_their_own_give_the_same() -> None:
    replayed = sampled(DCI, replay=Replay())
    torch.testing.assert_close(replayed.concept, sampled(DCI).concept, atol=1e-4, rtol=1e-3)


def test_a_run_may_start_from_latents_at_its_own_time() -> None:
    start, times = torch.full((2, 8, 16, 16), 0.5), FAMILY.schedule.spaced("normal", 8)[5:]
    some = sampled(None, start=start, sigmas=times).concept
    noise = sampled(None, start=torch.zeros_like(start), sigmas=times).concept
    assert torch.allclose(FAMILY.schedule.noised(start, 0.25, start), start)
    assert not torch.allclose(some, noise, atol=1e-2)


@pytest.mark.parametrize("is_whole", [False, True])
def test_the_control_blends_the_whole_output_and_dbim_the_texts_part(is_whole: bool) -> None:
    g = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(2, 9, 8, generator=g) for _ in range(3))
    layer, rows = LayerId("double", 0), TokenRows(slice(0, 5), slice(5, 9))
    call = AttentionCall(q, k, v, k[:, :5], 2, (2, 2), layer, rows=rows)
    words = TokenSet(length=5, real=(1, 2, 3), span=(2,))
    settings = DbimSettings(shares={layer: 1.0}, fixed_weight=0.3, blends_whole=is_whole)
    tokens = PairTokens(concept=words, auxiliary=words)
    out = dbim_rule(settings, BranchRows((0,), (1,)), tokens, torch.device("cpu"))(call)
    plain, text, image = call.plain(), rows.text, rows.image
    if is_whole:
        naive = 0.3 * plain[0, image] + 0.7 * plain[1, image]
    else:
        parts, masses = [], []
        for row in range(2):
            logits = torch.einsum("nhd,mhd->hnm", *(x[row].view(9, 2, 4) for x in (q[:, :], k)))[:, image] / 2
            odds = logits.softmax(-1)
            masses.append(odds[..., text].sum(-1))
            alone = logits[..., text].softmax(-1)
            parts.append(torch.einsum("hnm,mhd->nhd", alone, v[row, text].view(5, 2, 4)))
        moved = 0.7 * masses[0].T[..., None] * (parts[1] - parts[0])
        naive = plain[0, image] + moved.reshape(4, 8)
    torch.testing.assert_close(out[0, image], naive)
    assert torch.equal(out[0, text], plain[0, text]) and torch.equal(out[1], plain[1])


def test_the_two_blends_differ_and_halves_know_which() -> None:
    whole = replace(DCI, blends_whole=True)
    assert not torch.allclose(sampled(whole).concept, sampled(DCI).concept, atol=1e-3)
    replayed = sampled(whole, replay=Replay())
    torch.testing.assert_close(replayed.concept, sampled(whole).concept, atol=1e-4, rtol=1e-3)
    replay = Replay()
    sampled(DCI, replay=replay)
    assert torch.equal(sampled(whole, replay=replay).concept, replayed.concept)


def test_where_nobody_chooses_a_flow_is_aligned_and_a_diffusion_shared() -> None:
    found = {name: usual_guidance(find_family(name)) for name in ("tiny_flow", "tiny", "sd15", "sdxl")}
    assert found == {"tiny_flow": "aligned", "tiny": "shared", "sd15": "shared", "sdxl": "shared"}


def test_the_swap_is_a_control_here_too() -> None:
    with torch.no_grad():
        swapped = sample_swapped(MODEL, pair(), window=0.5, seeds=[3, 4], settings=STEPS).concept
    assert not torch.allclose(swapped, sampled().concept, atol=1e-2)


@pytest.mark.parametrize("bad", [{"spacing": "karras"}, {"eta": 0.5, "sampler": "ddim"}, {"num_steps": 0}])
def test_what_only_a_diffusion_knows_is_refused(bad: Mapping[str, Any]) -> None:
    with pytest.raises(BadSettings):
        sampled(None, replace(STEPS, **bad))
