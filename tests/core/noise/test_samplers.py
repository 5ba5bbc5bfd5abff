"""Samplers on a Gaussian whose best denoiser is known: x0 ~ N(MEAN, SPREAD^2)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dci_core.errors import BadSettings
from dci_core.noise.samplers import SAMPLERS, Step, find_sampler, sample_ddim, sample_dpmpp_2m, sample_euler
from dci_core.noise.schedule import ddim_sigmas, karras_sigmas, sd_schedule

MEAN, SPREAD = 0.7, 0.5
SD = sd_schedule()


def gaussian(x: Tensor, sigma: float) -> Tensor:
    return MEAN + (x - MEAN) * (SPREAD**2 / (SPREAD**2 + sigma**2))


def exact(x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Where the noiseless flow leads."""
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + sigma_next**2) / (SPREAD**2 + sigma**2))


def start(num: int = 64) -> Tensor:
    noise = torch.randn(num, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return MEAN + math.sqrt(SPREAD**2 + SD.sigma_max**2) * noise


def miss(name: str, num_steps: int) -> float:
    sigmas = karras_sigmas(SD, num_steps)[:-1]
    return float((SAMPLERS[name](gaussian, start(), sigmas) - exact(start(), sigmas[0], sigmas[-1])).abs().max())


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ddim", 1), ("dpmpp_2m", 2)])
def test_error_falls_with_the_samplers_order(name: str, order: int) -> None:
    coarse, fine = miss(name, 80), miss(name, 160)
    assert fine < 0.02 and math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


def test_second_order_beats_first_at_the_same_steps() -> None:
    assert miss("dpmpp_2m", 20) < miss("euler", 20) / 3


def test_deterministic_ddim_is_euler() -> None:
    sigmas = karras_sigmas(SD, 12)
    torch.testing.assert_close(sample_ddim(gaussian, start(), sigmas), sample_euler(gaussian, start(), sigmas))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_step_to_no_noise_gives_the_estimate(name: str) -> None:
    seen: list[Step] = []
    out = SAMPLERS[name](gaussian, start(), karras_sigmas(SD, 8), on_step=seen.append)
    torch.testing.assert_close(out, seen[-1].x0)
    assert [step.index for step in seen] == list(range(8)) and {step.num_steps for step in seen} == {8}


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_follows_its_own_equation(eta: float) -> None:
    sigmas = [SD.sigma(601), SD.sigma(401)]
    g = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 16, generator=g, dtype=torch.float64)
    ab, ab_next = (1 / (1 + sigma**2) for sigma in sigmas)
    z = x * math.sqrt(ab)  # the equation is written in variance-preserving units
    e = (x - gaussian(x, sigmas[0])) / sigmas[0]
    fresh = eta * math.sqrt((1 - ab_next) / (1 - ab) * (1 - ab / ab_next))
    x0 = (z - math.sqrt(1 - ab) * e) / math.sqrt(ab)
    z_next = math.sqrt(ab_next) * x0 + math.sqrt(1 - ab_next - fresh**2) * e + fresh * noise
    out = sample_ddim(gaussian, x, sigmas, eta=eta, noise=lambda sigma: noise)
    torch.testing.assert_close(out, z_next / math.sqrt(ab_next))


def test_ancestral_steps_keep_the_spread() -> None:
    g = torch.Generator().manual_seed(2)
    x = start(20_000)
    out = sample_ddim(
        gaussian, x, ddim_sigmas(SD, 1000), eta=1.0, noise=lambda sigma: torch.randn(x.shape, generator=g).double()
    )
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.02) and float(out.std()) == pytest.approx(SPREAD, rel=0.02)


def test_noise_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadSettings, match="no noise was given"):
        sample_ddim(gaussian, start(), [1.0, 0.0], eta=1.0)
    with pytest.raises(BadSettings, match="eta is 2"):
        sample_ddim(gaussian, start(), [1.0, 0.0], eta=2.0)
    for name in ("euler", "dpmpp_2m"):
        with pytest.raises(BadSettings, match="draws no noise"):
            SAMPLERS[name](gaussian, start(), [1.0, 0.0], eta=0.5)
    with pytest.raises(BadSettings, match="'heun'"):
        find_sampler("heun")


def test_rows_are_independent() -> None:
    sigmas, x = karras_sigmas(SD, 10), start()
    for sampler in (sample_euler, sample_dpmpp_2m):
        torch.testing.assert_close(sampler(gaussian, x, sigmas)[:3], sampler(gaussian, x[:3], sigmas))
