"""Training in bf16 and fp16, and draws that give no finite number."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionRule
from dci_core.errors import BadSettings, TrainingDiverged
from dci_core.ico import train
from dci_core.ico.checkpoint import load_state, save_state
from dci_core.ico.precision import FIRST_SCALE, GROWS_AFTER, LossScale, choose_precision, device_precision
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training, generator_for, parameters_by_name
from dci_core.ico.train import train_steps
from dci_core.ico.update import MOST_BAD_DRAWS
from dci_core.model import Text

from ..toy_model import RARE, ToyModel, toy_data

QUICK = IcoSettings(steps=6, batch=2, learning_rate=1e-3, modifier_tokens=2)
MODEL, DATA = ToyModel.random(), toy_data()


class Disturbed(ToyModel):
    """The toy, whose answer with a rule is multiplied by what comes next."""

    def disturbed_by(self, factor: Callable[[], float]) -> Disturbed:
        object.__setattr__(self, "factor", factor)
        return self

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        x0 = super().denoise(x, sigma, text, rule)
        return x0 if rule is None else x0 * self.factor()  # type: ignore[attr-defined]


class Overflow(torch.autograd.Function):
    """Changes nothing on the way forward; the gradient overflows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


class Overflowing(ToyModel):
    """The toy, whose first gradients overflow."""

    left = [0]

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        x0 = super().denoise(x, sigma, text, rule)
        if rule is None or not self.left[0]:
            return x0
        self.left[0] -= 1
        overflowing: Tensor = Overflow.apply(x0)
        return overflowing


def disturbed(*factors: float) -> Disturbed:
    """The toy with these factors first and 1 ever after."""
    queue = list(factors)
    toy = Disturbed(MODEL.encoders, MODEL.weights)
    return toy.disturbed_by(lambda: queue.pop(0) if queue else 1.0)


def begin(**changes: object) -> TrainState:
    return begin_training(
        MODEL, DATA, replace(QUICK, **changes), noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE
    )


def values(state: TrainState) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters_by_name(state).values()])


def test_auto_is_the_best_that_the_device_has() -> None:
    assert choose_precision("auto", has_bf16=True, has_fp16=True) == "bf16"
    assert choose_precision("auto", has_bf16=False, has_fp16=True) == "fp16"
    assert choose_precision("auto", has_bf16=False, has_fp16=False) == "fp32"
    assert choose_precision("fp16", has_bf16=True, has_fp16=False) == "fp16"
    assert device_precision("auto", torch.device("cpu")) == "fp32"
    with pytest.raises(BadSettings, match="fp8"):
        choose_precision("fp8", has_bf16=True, has_fp16=True)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_passes_move_fp32_parameters_nearly_as_fp32_ones_do(precision: str) -> None:
    wide, narrow = begin(), begin(precision=precision)
    start = values(wide)
    for state in (wide, narrow):
        list(train_steps(MODEL, DATA, state))
    assert wide.losses != narrow.losses and narrow.losses == pytest.approx(wide.losses, rel=0.05)
    assert all(p.dtype == torch.float32 for p in parameters_by_name(narrow).values())
    assert torch.cosine_similarity(values(wide) - start, values(narrow) - start, dim=0) > 0.9
    assert narrow.scale.value == (FIRST_SCALE / 2**narrow.skipped if precision == "fp16" else 1.0)


def test_a_model_that_casts_itself_is_left_alone() -> None:
    wide, own = begin(), begin(precision="bf16")
    list(train_steps(MODEL, DATA, wide))
    list(train_steps(MODEL, DATA, own, casts=False))
    assert wide.losses == own.losses


def test_the_scale_of_the_loss_changes_no_bit_of_fp32_and_halves_at_overflow() -> None:
    plain, scaled = begin(), begin(precision="fp16")
    list(train_steps(MODEL, DATA, plain))
    list(train_steps(MODEL, DATA, scaled, casts=False))  # computed in fp32, scaled all the same
    assert torch.allclose(values(plain), values(scaled), rtol=1e-5)
    state = begin(precision="fp16")
    loud = Overflowing(MODEL.encoders, MODEL.weights)
    loud.left[0] = 3
    reports = list(train_steps(loud, DATA, state, casts=False))
    assert [report.skipped for report in reports] == [3, 0, 0, 0, 0, 0]
    assert state.scale == LossScale(FIRST_SCALE / 8, QUICK.steps) and state.skipped == 3
    assert state.losses == pytest.approx(plain.losses, rel=1e-5)  # the same draws


def test_the_scale_grows_again_after_enough_good_steps() -> None:
    scale = LossScale(1.0)
    scale.after_bad_step()
    assert scale.value == 1.0
    for _ in range(GROWS_AFTER):
        scale.after_good_step()
    assert scale == LossScale(2.0, 0)


def test_a_bad_draw_is_left_out_for_another_and_told(caplog: pytest.LogCaptureFixture) -> None:
    state, plain = begin(), begin()
    list(train_steps(MODEL, DATA, plain))
    with caplog.at_level(logging.WARNING):
        reports = list(train_steps(disturbed(1.0, math.nan), DATA, state))
    assert [report.skipped for report in reports] == [0, 1, 0, 0, 0, 0] and state.skipped == 1
    assert "step 2 is tried again with another draw" in caplog.text
    assert state.step == 6 and state.losses[0] == plain.losses[0] and state.losses[1] != plain.losses[1]
    assert torch.isfinite(values(state)).all()


def test_ten_bad_draws_in_a_row_stop_with_the_last_good_state_and_later_ones_may_be_good() -> None:
    state = begin()
    steps = train_steps(disturbed(1.0, 1.0, *[math.nan] * MOST_BAD_DRAWS), DATA, state)
    next(steps), next(steps)
    good = values(state)
    with pytest.raises(TrainingDiverged, match="10 draws in a row of step 3"):
        next(steps)
    assert state.step == 2 and torch.equal(values(state), good)
    list(train_steps(MODEL, DATA, state))
    assert state.step == 6


def test_what_goes_on_after_ten_bad_draws_tries_none_of_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[object, ...]] = []

    def watched(seed: int, *place: object) -> torch.Generator:
        tried.append(place)
        return generator_for(seed, *place)

    monkeypatch.setattr(train, "generator_for", watched)
    state = begin()
    steps = train_steps(disturbed(*[math.nan] * MOST_BAD_DRAWS), DATA, state)
    with pytest.raises(TrainingDiverged):
        next(steps)
    first = [*tried]
    assert len(set(first)) == MOST_BAD_DRAWS and state.bad_draws == MOST_BAD_DRAWS
    save_state(state, tmp_path / "state.safetensors")
    kept = load_state(
        tmp_path / "state.safetensors",
        MODEL,
        DATA,
        state.settings,
        noun="fish",
        widths=MODEL.kv_shapes(),
        rare_tokens=RARE,
    )
    for again in (state, kept):
        tried.clear()
        reports = list(train_steps(disturbed(math.nan), DATA, again))
        assert not set(tried) & set(first) and reports[0].bad_draws == MOST_BAD_DRAWS + 1
        assert again.step == 6 and again.bad_draws == 0 and reports[1].bad_draws == 0
    assert torch.equal(values(state), values(kept))


def test_resume_goes_on_at_the_same_scale_and_in_exactly_the_same_steps(tmp_path: Path) -> None:
    whole, state = begin(precision="fp16"), begin(precision="fp16")
    list(train_steps(MODEL, DATA, whole))
    steps = train_steps(MODEL, DATA, state)
    next(steps), next(steps)
    save_state(state, tmp_path / "training")
    again = load_state(
        tmp_path / "training", MODEL, DATA, state.settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE
    )
    list(train_steps(MODEL, DATA, again))
    assert again.scale == whole.scale and torch.equal(values(again), values(whole))


def test_a_model_of_another_number_of_timesteps_trains_on_its_own_levels() -> None:
    state = begin()
    list(train_steps(MODEL, DATA, state, sigmas=torch.logspace(-1, 1, 50)))
    assert state.step == 6 and all(map(math.isfinite, state.losses))
