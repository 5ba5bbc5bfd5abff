"""Samplers: from noise to a latent along falling sigmas, over any callable model(x, sigma) -> x0.

Everything is in the variance-exploding scale, x = x0 + sigma * noise, or in a flow's, (1 - sigma) x0 + sigma * noise:
without fresh noise the same steps hold in both. Rows are independent, so a sampler knows nothing of branches, guidance
or prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..errors import BadSettings
from .schedule import split_noise

Denoiser = Callable[[Tensor, float], Tensor]
"""(x [rows c h w], sigma) -> the clean latent's estimate x0, [rows c h w]."""

DrawNoise = Callable[[float], Tensor]
"""(sigma that the step started from) -> fresh unit noise shaped like x."""


@dataclass(frozen=True)
class Step:
    """One finished step: x is where it led, x0 what it was led by."""

    index: int
    num_steps: int
    sigma: float
    x: Tensor
    x0: Tensor


OnStep = Callable[[Step], None]


class Sampler(Protocol):
    """What every sampler here is called with; those that draw no noise refuse an eta above 0."""

    def __call__(
        self,
        model: Denoiser,
        x: Tensor,
        sigmas: Sequence[float],
        *,
        eta: float = 0.0,
        noise: DrawNoise | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """The latent at sigmas[-1], from x at sigmas[0]."""


def sample_ddim(
    model: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 0.0,
    noise: DrawNoise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DDIM with eta in 0..1: 0 deterministic, 1 ancestral. Source: Song et al. 2021 (arXiv 2010.02502), equation 12.

    In this scale its step is Euler's down to a lower noise, then fresh noise up to sigmas[i + 1].
    """
    if not 0 <= eta <= 1:
        raise BadSettings(f"eta is {eta}", "0..1 is expected", "use 0 for no fresh noise, 1 for DDPM's")
    if eta > 0 and noise is None:
        raise BadSettings(f"eta is {eta} and no noise was given", "a source of noise is expected", "pass noise=")
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        x0 = model(x, sigma)
        down, up = split_noise(sigma, sigma_next, eta)
        x = x0 + (x - x0) * (down / sigma)
        if up > 0 and noise is not None:
            x = x + noise(sigma) * up
        report(on_step, i, sigmas, x, x0)
    return x


def sample_euler(
    model: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 0.0,
    noise: DrawNoise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Euler's method on dx/dsigma = (x - x0) / sigma. Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 1."""
    refuse_eta("euler", eta)
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        x0 = model(x, sigma)
        x = x + (x - x0) / sigma * (sigma_next - sigma)
        report(on_step, i, sigmas, x, x0)
    return x


def sample_dpmpp_2m(
    model: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    eta: float = 0.0,
    noise: DrawNoise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M): second order from two estimates of x0. Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2.

    With lambda = -log sigma and h its step, x' = (sigma'/sigma) x - (e^-h - 1) D, where D continues x0 along lambda to
    the middle of the step. The first step and the one to sigma 0 are first order.
    """
    refuse_eta("dpmpp_2m", eta)
    last_x0, last_h = None, 0.0
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        x0 = model(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            h = math.log(sigma / sigma_next)
            target = x0 if last_x0 is None else x0 + (x0 - last_x0) * (h / (2 * last_h))
            x = x * (sigma_next / sigma) - target * math.expm1(-h)
            last_x0, last_h = x0, h
        report(on_step, i, sigmas, x, x0)
    return x


def refuse_eta(name: str, eta: float) -> None:
    """Raises BadSettings where a sampler without fresh noise is asked for some."""
    if eta != 0:
        raise BadSettings(f"eta is {eta} and the sampler {name}", "it draws no noise, so 0 is expected", "use ddim")


def report(on_step: OnStep | None, i: int, sigmas: Sequence[float], x: Tensor, x0: Tensor) -> None:
    """Tells the listener, if there is one, of a finished step."""
    if on_step is not None:
        on_step(Step(i, len(sigmas) - 1, sigmas[i], x, x0))


SAMPLERS: dict[str, Sampler] = {"ddim": sample_ddim, "euler": sample_euler, "dpmpp_2m": sample_dpmpp_2m}


def find_sampler(name: str) -> Sampler:
    """The sampler of that name; raises BadSettings."""
    if name not in SAMPLERS:
        raise BadSettings(f"the sampler is {name!r}", f"one of {', '.join(SAMPLERS)} is expected", "choose one")
    return SAMPLERS[name]
