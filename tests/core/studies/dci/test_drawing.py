"""Pictures of many prompts in one batch are those that the core draws of each; a dial does what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.together import Part, Together
from dci_core.dci.branches import DciSettings
from dci_core.dci.run import SampleSettings, sample_latents, sample_swapped
from dci_core.errors import BadSettings
from dci_core.studies.dci import cells, dials
from dci_core.studies.dci.dials import Way
from dci_core.studies.dci.drawing import Rows, Scope, draw_rows
from dci_core.studies.gates.trial import asks_for
from dci_core.text.prompts import Prompts
from dci_core.text.tokens import PromptPair
from dci_core.tiny.flow.concept_model import TinyFlowModel
from dci_core.tiny.model import TinyModel
from dci_core.tiny.world.concepts import CONCEPTS

SETTINGS = SampleSettings(num_steps=3, cfg=4.0, sampler="dpmpp_2m")
TEMPLATES = ("a {concept} in snow", "a {concept} on a meadow next to a ball", "{concept}")
SEEDS = (3, 5)


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return TinyModel.random(5)


def pair_prompts(model: TinyModel | TinyFlowModel, template: str) -> Prompts:
    pair = PromptPair.from_template(
        template, trigger="zor", noun="fish", auxiliary="cat", encoder=model.encoders["clip_l"]
    )
    return Prompts.from_pair(model, pair)


def all_rows(model: TinyModel | TinyFlowModel) -> tuple[list[Prompts], Rows]:
    prompts = [pair_prompts(model, template) for template in TEMPLATES]
    return prompts, Rows(prompts, (0, 0, 1, 1, 2, 2), SEEDS * 3)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4 * float(other.abs().max()))


@torch.no_grad()
def test_a_batch_of_prompts_is_what_the_core_draws_of_each(model: TinyModel) -> None:
    prompts, rows = all_rows(model)
    expected = torch.cat([sample_latents(model, p, seeds=SEEDS, settings=SETTINGS).concept for p in prompts])
    assert close(draw_rows(model, rows, SETTINGS), expected)
    one = replace(SETTINGS, cfg=1.0)
    expected = torch.cat([sample_latents(model, p, seeds=SEEDS, settings=one).concept for p in prompts])
    assert close(draw_rows(model, rows, one), expected)


@torch.no_grad()
@pytest.mark.parametrize("guidance", ["shared", "separate", "aligned"])
def test_dci_over_a_batch_of_prompts_is_the_core_s(model: TinyModel, guidance: str) -> None:
    prompts, rows = all_rows(model)
    dci = DciSettings(window=0.7, strength=1.4, guidance=guidance)  # type: ignore[arg-type]
    expected = [sample_latents(model, p, seeds=SEEDS, settings=SETTINGS, dci=dci).concept for p in prompts]
    drawn = draw_rows(model, rows, SETTINGS, dci)
    assert close(drawn, torch.cat(expected)) and not close(drawn, draw_rows(model, rows, SETTINGS))


@torch.no_grad()
@pytest.mark.parametrize("change", [{"form": "shift"}, {"fade": 0.9}])
def test_other_forms_over_a_batch_of_prompts_are_the_core_s(model: TinyModel, change: dict[str, Any]) -> None:
    prompts, rows = all_rows(model)
    usual = DciSettings(window=0.7, strength=2.0, guidance="aligned")
    dci = replace(usual, **change)
    expected = [sample_latents(model, p, seeds=SEEDS, settings=SETTINGS, dci=dci).concept for p in prompts]
    drawn = draw_rows(model, rows, SETTINGS, dci)
    assert close(drawn, torch.cat(expected)) and not close(drawn, draw_rows(model, rows, SETTINGS, usual))


@torch.no_grad()
def test_the_swap_over_a_batch_of_prompts_is_the_core_s(model: TinyModel) -> None:
    prompts, rows = all_rows(model)
    expected = [sample_swapped(model, p, window=0.5, seeds=SEEDS, settings=SETTINGS).concept for p in prompts]
    assert close(draw_rows(model, rows, SETTINGS, swap_window=0.5), torch.cat(expected))


@torch.no_grad()
@pytest.mark.parametrize("blends_whole", [False, True])
def test_a_batch_of_prompts_on_the_flow_is_the_core_s(blends_whole: bool) -> None:
    model = TinyFlowModel.random(5)
    prompts, rows = all_rows(model)
    euler = replace(SETTINGS, sampler="euler")
    dci = DciSettings(window=0.7, guidance="aligned", blends_whole=blends_whole)
    for how in (None, dci):
        expected = [sample_latents(model, p, seeds=SEEDS, settings=euler, dci=how).concept for p in prompts]
        assert close(draw_rows(model, rows, euler, how), torch.cat(expected))
    swapped = [sample_swapped(model, p, window=0.5, seeds=SEEDS, settings=euler).concept for p in prompts]
    assert close(draw_rows(model, rows, euler, swap_window=0.5), torch.cat(swapped))
    assert not close(draw_rows(model, rows, euler, dci), draw_rows(model, rows, euler))


@torch.no_grad()
@pytest.mark.parametrize(("common", "others"), [(0.0, 0.0), (0.4, 0.7)])
def test_changes_on_own_words_over_a_batch_of_prompts_are_the_core_s(
    model: TinyModel, common: float, others: float
) -> None:
    prompts, rows = all_rows(model)
    generator = torch.Generator().manual_seed(2)

    def change(inner: int, width: int) -> Delta:
        return Delta(0.3 * width**-0.5 * torch.randn(inner, width, generator=generator))

    changes = {layer: LayerDelta(change(*shape), change(*shape)) for layer, shape in model.kv_shapes().items()}
    scope = Scope(Part((), (), changes, 0.5), common, others)
    for how in (None, DciSettings(window=0.7, strength=1.4, guidance="aligned")):
        expected = []
        for p in prompts:
            assert p.tokens is not None
            part = Part(p.tokens.concept.span, p.tokens.auxiliary.span, changes, 0.5)
            kept = Together((part,), common=common, others=others)
            run = sample_latents(model, p, seeds=SEEDS, settings=SETTINGS, dci=how, together=kept)
            expected.append(run.concept)
        drawn = draw_rows(model, replace(rows, scope=scope), SETTINGS, how)
        assert close(drawn, torch.cat(expected)) and not close(drawn, draw_rows(model, rows, SETTINGS, how))


def test_a_scope_is_not_for_the_swap_and_needs_a_pair(model: TinyModel) -> None:
    _, rows = all_rows(model)
    scope = Scope(Part((), ()), 0.0, 0.0)
    with pytest.raises(BadSettings, match="a scope came with a swap"):
        draw_rows(model, replace(rows, scope=scope), SETTINGS, swap_window=0.3)
    alone = Rows([Prompts.from_text(model, "a fish")], (0,), (0,), scope)
    with pytest.raises(BadSettings, match="its concept's words"):
        draw_rows(model, alone, SETTINGS)


@torch.no_grad()
def test_a_closed_window_is_plain_sampling_bit_for_bit(model: TinyModel) -> None:
    _, rows = all_rows(model)
    assert torch.equal(draw_rows(model, rows, SETTINGS, DciSettings(window=0)), draw_rows(model, rows, SETTINGS))


def test_dci_without_an_auxiliary_prompt_is_refused(model: TinyModel) -> None:
    rows = Rows([Prompts.from_text(model, "a fish")], (0,), (0,))
    with pytest.raises(BadSettings, match="no auxiliary prompt"):
        draw_rows(model, rows, SETTINGS, DciSettings())


def test_prompt_weight_is_the_host_s_line_from_the_empty_prompt(model: TinyModel) -> None:
    prompts = pair_prompts(model, TEMPLATES[0])
    assert prompts.tokens is not None
    slots = prompts.tokens.concept.span
    hidden, empty = prompts.concept.hidden, prompts.empty.hidden
    changed = cells.weighted(prompts, slots, 0.7).concept.hidden
    for slot in range(hidden.shape[1]):
        naive = (hidden[:, slot] - empty[:, slot]) * 0.7 + empty[:, slot] if slot in slots else hidden[:, slot]
        assert torch.allclose(changed[:, slot], naive)
    assert torch.allclose(cells.weighted(prompts, slots, 1.0).concept.hidden, hidden)
    assert torch.equal(cells.weighted(prompts, slots, 0.0).concept.hidden[:, slots[0]], empty[:, slots[0]])


def test_every_dial_has_as_many_settings_and_changes_one_thing() -> None:
    base = Way(SETTINGS)
    found = dials.dials(base, (1, 2, 3, 4))
    assert {len(settings) for settings in found.values()} == {4}
    for settings in found.values():
        assert len({(s.way.__repr__(), s.step) for s in settings}) == 4
        assert all((s.way != base) != (s.step is not None) for s in settings)


def test_a_shuffled_auxiliary_prompt_asks_for_another_place() -> None:
    for thing in CONCEPTS:
        places = [ask.asked["place"] for ask in asks_for(thing)]
        assert all(one != other for one, other in zip(places, [*places[1:], places[0]], strict=True))
