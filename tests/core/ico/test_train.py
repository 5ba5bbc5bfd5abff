"""Training: what learns, what stays, exact resume, the prior, bad settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionRule
from dci_core.errors import BadConcept, BadSettings, PromptTooLong, SpanNotFound
from dci_core.ico.checkpoint import load_state, save_state
from dci_core.ico.data import TrainingData
from dci_core.ico.settings import IcoSettings, rate_at
from dci_core.ico.state import TrainState, begin_training, parameters_by_name
from dci_core.ico.train import StepReport, _Work, train_steps
from dci_core.model import Text
from dci_core.noise.schedule import sd_schedule
from dci_core.text.captions import encode_captions

from ..toy_model import RARE, ToyModel, toy_data

QUICK = IcoSettings(steps=6, batch=2, learning_rate=1e-3, prefix="a photo of", modifier_tokens=2)
MODEL = ToyModel.random()
SIGMAS = sd_schedule().log_sigmas.exp().float()


def begin(settings: IcoSettings = QUICK, data: TrainingData | None = None, model: ToyModel = MODEL) -> TrainState:
    data = toy_data() if data is None else data
    return begin_training(model, data, settings, noun="fish", widths=model.kv_shapes(), rare_tokens=RARE)


def run(state: TrainState, data: TrainingData | None = None, count: int | None = None) -> list[StepReport]:
    steps = train_steps(MODEL, toy_data() if data is None else data, state)
    return list(steps if count is None else itertools.islice(steps, count))


def copy_of(state: TrainState) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in parameters_by_name(state).items()}


def resumed(
    path: Path, settings: IcoSettings = QUICK, noun: str = "fish", data: TrainingData | None = None
) -> TrainState:
    data = toy_data() if data is None else data
    return load_state(path, MODEL, data, settings, noun=noun, widths=MODEL.kv_shapes(), rare_tokens=RARE)


@pytest.mark.parametrize("rank", [None, 2])
def test_training_lowers_the_loss(rank: int | None) -> None:
    settings = replace(QUICK, steps=160, rank=rank, prior="none", learning_rate=5e-3)
    losses = [report.loss for report in run(begin(settings))]
    assert sum(losses[-40:]) < 0.93 * sum(losses[:40])


def test_every_part_learns_and_the_model_does_not_change() -> None:
    before_model = {name: x.clone() for name, x in MODEL.weights.items()}
    state = begin()
    before = copy_of(state)
    reports = run(state)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert all(not torch.equal(before[name], now) for name, now in parameters_by_name(state).items())
    assert all(torch.equal(before_model[name], now) for name, now in MODEL.weights.items())


def test_a_second_run_gives_the_same_bits_and_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    first = begin()
    run(first)
    before = torch.get_rng_state()
    second = begin()
    run(second)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(x, copy_of(second)[name]) for name, x in parameters_by_name(first).items())
    other = begin(replace(QUICK, seed=24))
    run(other)
    assert any(not torch.equal(x, copy_of(other)[name]) for name, x in parameters_by_name(first).items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rank": 2, "schedule": "cosine", "warmup_steps": 2, "accumulation": 2, "clip_norm": 0.1},
        {"contexts": False, "prior": "none", "templates": ("photo of a {concept}", "a {concept}")},
    ],
)
def test_resume_continues_exactly(tmp_path: Path, changes: Mapping[str, object]) -> None:
    settings = replace(QUICK, **changes)
    whole = begin(settings)
    losses = [report.loss for report in run(whole)]
    part = begin(settings)
    run(part, count=2)
    save_state(part, tmp_path / "state.safetensors")
    again = resumed(tmp_path / "state.safetensors", settings)
    rest = [report.loss for report in run(again)]
    assert rest == losses[2:] and again.losses == whole.losses
    assert all(torch.equal(x, parameters_by_name(again)[name]) for name, x in parameters_by_name(whole).items())


def test_a_constant_schedule_may_go_on_for_longer_and_a_cosine_may_not(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    state = begin(replace(QUICK, steps=2))
    run(state)
    save_state(state, path)
    longer = resumed(path)
    run(longer)
    whole = begin()
    run(whole)
    assert longer.losses == whole.losses
    save_state(begin(replace(QUICK, schedule="cosine")), path)
    with pytest.raises(BadSettings, match="steps"):
        resumed(path, replace(QUICK, schedule="cosine", steps=9))


def test_resume_refuses_what_the_training_did_not_begin_with(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(begin(), path)
    with pytest.raises(BadSettings, match="seed is 1; 23 was expected"):
        resumed(path, replace(QUICK, seed=1))
    with pytest.raises(BadSettings, match="noun is cat"):
        resumed(path, noun="cat")
    with pytest.raises(BadSettings, match="pictures or captions differ"):
        resumed(path, data=toy_data(seed=8))
    with pytest.raises(BadSettings, match="other pictures"):
        run(begin(), toy_data(seed=8))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadConcept, match="cut short"):
        resumed(path)


def test_contexts_learn_ten_times_faster() -> None:
    state = begin()
    (report,) = run(state, count=1)
    rates = {group["factor"]: group["lr"] for group in state.optimiser.param_groups}
    assert rates == {1.0: report.learning_rate, 10.0: 10 * report.learning_rate}
    assert report.learning_rate == pytest.approx(QUICK.learning_rate * 2)  # per picture, times the batch


def test_schedules_rise_and_fall_as_asked() -> None:
    settings = IcoSettings(steps=12, learning_rate=1.0, batch=1, warmup_steps=2, schedule="cosine")
    assert [rate_at(step, settings) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert rate_at(7, settings) == pytest.approx(0.5) and rate_at(12, settings) == pytest.approx(0.0)
    assert rate_at(11, replace(settings, schedule="constant")) == 1.0


def test_accumulated_passes_are_averaged() -> None:
    two = begin(replace(QUICK, accumulation=2, scale_rate=False, prior="none"))
    (report,) = run(two, count=1)
    singles = []
    for index in range(2):
        work = _Work(MODEL, toy_data(), begin(two.settings), SIGMAS)
        singles.append(work.losses(index)[0].item())
    assert report.loss == pytest.approx(sum(singles) / 2) and singles[0] != singles[1]


class CountingModel:
    """The toy, remembering the rows and the rule of every pass."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []
        self.encoded: list[int] = []
        self.family, self.layers, self.encoders = MODEL.family, MODEL.layers, MODEL.encoders

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        self.encoded.append(len(embeds["clip_l"]))
        return MODEL.encode(embeds, ends)

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        self.calls.append((len(x), rule is not None))
        return MODEL.denoise(x, sigma, text, rule)


def counted(settings: IcoSettings, data: TrainingData) -> CountingModel:
    model = CountingModel()
    state = begin_training(model, data, settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)
    list(itertools.islice(train_steps(model, data, state), 2))
    return model


def test_concept_and_prior_run_in_one_pass_and_the_prior_is_encoded_once() -> None:
    assert counted(replace(QUICK, prior="none"), toy_data()).calls == [(2, True)] * 2
    taught = counted(QUICK, toy_data())
    assert taught.calls == [(2, False), (4, True)] * 2  # the untrained model's answer, then both together
    assert taught.encoded == [1, 2, 2]
    pictures = replace(toy_data(), class_latents=toy_data(5, seed=9).latents)
    assert counted(replace(QUICK, prior="pictures"), pictures).calls == [(4, True)] * 2


def test_class_pictures_of_another_size_run_in_a_pass_of_their_own() -> None:
    data = replace(toy_data(), class_latents=toy_data(2, size=6).latents, class_captions=("a blue fish", None))
    assert counted(replace(QUICK, prior="pictures"), data).calls == [(2, True), (2, True)] * 2


def test_the_prior_of_the_untrained_model_is_zero_at_first_and_holds_the_noun_in_place_later() -> None:
    long = replace(QUICK, steps=40, learning_rate=5e-3)
    with_prior = run(begin(long))
    assert with_prior[0].prior_loss == pytest.approx(0, abs=1e-12)
    free, held = begin(replace(long, prior="none")), begin(long)
    run(free), run(held)
    drift = {}
    noun = encode_captions(MODEL, ["fish"])
    x, sigma = toy_data().latents[:1, 0], torch.ones(1)
    for name, state in (("free", free), ("held", held)):
        now = MODEL.denoise(x, sigma, noun, state.learned.deltas.rule())
        drift[name] = (now - MODEL.denoise(x, sigma, noun)).norm().item()
    assert drift["held"] < 0.8 * drift["free"]


def test_prior_captions_give_no_gradient_to_any_embedding() -> None:
    assert not encode_captions(MODEL, ["a fish"]).hidden.requires_grad
    state = begin()
    with torch.no_grad():
        for parameter in state.learned.deltas.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    concept, prior = _Work(MODEL, toy_data(), state, SIGMAS).losses(0)
    assert prior is not None
    for loss, reaches in ((concept, True), (prior, False)):
        grads = torch.autograd.grad(loss, list(state.learned.text.parameters()), allow_unused=True, retain_graph=True)
        assert [g is not None and bool(g.any()) for g in grads] == [reaches] * 3


def test_a_mask_hides_what_is_outside_of_it() -> None:
    data = toy_data()
    mask = torch.zeros(3, 2, 1, 4, 4)
    mask[..., :2] = 1
    outside = data.latents.clone()
    outside[..., 3:] += 1e-3  # attention is per place in the toy, so only the loss could see this
    losses = {}
    for name, latents, shape in (("inside", data.latents, mask), ("moved", outside, mask), ("whole", outside, None)):
        changed = replace(data, latents=latents, masks=shape)
        losses[name] = run(begin(data=changed), changed, 1)[0].loss
    assert losses["inside"] == losses["moved"] != losses["whole"]


def test_captions_replace_the_bare_concept() -> None:
    plain, told = toy_data(), replace(toy_data(), captions=("a {concept} in snow",) * 3)
    assert run(begin(data=plain), plain, 1)[0].loss != run(begin(data=told), told, 1)[0].loss
    with pytest.raises(SpanNotFound, match="no place|0 places"):
        begin(data=replace(plain, captions=("a fish", None, None)))
    with pytest.raises(PromptTooLong):
        begin(data=replace(plain, captions=("{concept} " + "very " * 30, None, None)))
    with pytest.raises(BadSettings, match="2 captions"):
        begin(data=replace(plain, captions=("a {concept}", None)))


def test_training_works_inside_inference_mode() -> None:
    with torch.inference_mode():
        inside = begin()
        run(inside)
    outside = begin()
    run(outside)
    assert inside.losses == outside.losses


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": -1e-5},
        {"learning_rate": 1e30},
        {"precision": "fp8"},
        {"context_factor": math.inf},
        {"rank": 0},
        {"clip_norm": 0.0},
        {"modifier_tokens": 0},
        {"modifier_tokens": 4},
        {"flip_probability": 1.5},
        {"timestep_range": (10, 1000)},
        {"prior": "pictures"},
        {"prior": "sometimes"},
        {"positions": "wrong"},
        {"contexts": False, "templates": ()},
    ],
)
def test_settings_that_cannot_work_are_refused_before_any_work(bad: Mapping[str, object]) -> None:
    with pytest.raises(BadSettings):
        begin(replace(QUICK, **bad))


def test_the_optimiser_holds_the_learned_parameters_and_nothing_else() -> None:
    state = begin()
    run(state)
    held = {id(p) for group in state.optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in state.learned.parameters()} == {id(p) for p in state.optimiser.state}
    assert not any(x.requires_grad for x in MODEL.weights.values())


def test_a_low_rank_training_holds_factors_alone() -> None:
    state = begin(replace(QUICK, rank=2))
    parts = state.learned.deltas.parts
    assert all(min(part.shape) <= 2 for part in parts.values())
    run(state)
    assert all(state.optimiser.state[part]["exp_avg"].shape == part.shape for part in parts.values())
