"""What a training asks of the kind of noise: diffusion as it was, rectified flow by its equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dci_core.errors import BadModel
from dci_core.noise.losses import noise_loss
from dci_core.noise.process import RectifiedFlow, process_of, sd_sigmas

SOURCE = torch.Generator().manual_seed(0)
CLEAN, NOISE = (torch.randn(3, 2, 4, 4, generator=SOURCE) for _ in range(2))
SIGMA = torch.tensor([0.2, 0.5, 0.9])


def at(x: Tensor) -> Tensor:
    return x[:, None, None, None]


def test_a_flows_noise_time_and_target_are_its_equations() -> None:
    flow = process_of("flow", shift=1.5)
    x = flow.noised(CLEAN, SIGMA, NOISE)
    torch.testing.assert_close(x, (1 - at(SIGMA)) * CLEAN + at(SIGMA) * NOISE)
    velocity = flow.target(CLEAN, NOISE)
    torch.testing.assert_close(velocity, NOISE - CLEAN)
    torch.testing.assert_close(flow.answer(x, x - at(SIGMA) * velocity, SIGMA), velocity, atol=1e-5, rtol=1e-5)


def test_a_flows_loss_is_the_error_of_the_velocity_inside_the_mask() -> None:
    flow = process_of("flow")
    target, answer = flow.target(CLEAN, NOISE), flow.target(CLEAN, NOISE) + 0.5
    assert float(flow.loss(answer, target, SIGMA)) == pytest.approx(0.25)
    mask = torch.zeros(3, 1, 4, 4)
    mask[..., :2] = 1
    answer[..., 2:] += 9
    assert float(flow.loss(answer, target, SIGMA, mask)) == pytest.approx(0.25)


def test_a_flows_times_are_the_sigmoid_of_a_normal_shifted_towards_noise() -> None:
    even, shifted = (RectifiedFlow.shifted(shift).sigmas for shift in (1.0, 1.5))
    assert len(even) == 1000 and bool((even.diff() > 0).all()) and 0 < even[0] < even[-1] < 1
    assert float((even < torch.sigmoid(torch.tensor(1.0))).float().mean()) == pytest.approx(0.8413, abs=2e-3)
    torch.testing.assert_close(shifted, 1.5 * even / (1 + 0.5 * even))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_a_diffusion_is_what_it_was(prediction: str) -> None:
    diffusion = process_of(prediction)
    assert torch.equal(diffusion.sigmas, sd_sigmas())
    x = diffusion.noised(CLEAN, SIGMA, NOISE)
    assert torch.equal(x, CLEAN + at(SIGMA) * NOISE) and torch.equal(diffusion.target(CLEAN, NOISE), NOISE)
    guess = diffusion.answer(x, CLEAN + 0.1, SIGMA)
    assert torch.equal(diffusion.loss(guess, NOISE, SIGMA), noise_loss(guess, NOISE, SIGMA, prediction=prediction))


def test_own_levels_take_the_place_of_the_usual_ones() -> None:
    levels = torch.linspace(0.1, 0.9, 5)
    assert all(torch.equal(process_of(kind, levels).sigmas, levels) for kind in ("eps", "v", "flow"))
    with pytest.raises(BadModel, match="x0"):
        process_of("x0")
