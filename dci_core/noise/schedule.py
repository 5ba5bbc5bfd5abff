"""Noise levels: Stable Diffusion's training schedule, spacings of sampling steps, and the window.

sigma is the noise of the variance-exploding scale, x = x0 + sigma * noise; a timestep runs 0..999, 999 the noisiest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import BadSettings

Place = TypeVar("Place", int, Tensor)

TRAINING_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012  # Stable Diffusion, "scaled linear": linear in the square root of beta
KARRAS_RHO = 7.0  # Karras et al. 2022 (arXiv 2206.00364), equation 5
SAME_SIGMA = 1e-5  # relative; hosts keep sigma in float32, and neighbouring timesteps differ by 3e-3 or more


@dataclass(frozen=True, eq=False)
class Schedule:
    """A discrete training schedule, continued between its steps in log sigma.

    log_sigmas  [1000] float64, rising with the timestep
    """

    log_sigmas: Tensor

    @property
    def sigma_min(self) -> float:
        """Noise of timestep 0."""
        return self.sigma(0)

    @property
    def sigma_max(self) -> float:
        """Noise of timestep 999."""
        return self.sigma(TRAINING_STEPS - 1)

    @property
    def alphas_cumprod(self) -> Tensor:
        """alpha-bar of each timestep, [1000] float64."""
        return 1 / (1 + self.log_sigmas.exp().square())

    def sigma(self, timestep: float) -> float:
        """Noise at a timestep, interpolated in log sigma between whole ones; outside 0..999 the nearest end's."""
        timestep = min(max(timestep, 0.0), len(self.log_sigmas) - 1.0)
        low, high, part = math.floor(timestep), math.ceil(timestep), timestep % 1
        return math.exp((1 - part) * float(self.log_sigmas[low]) + part * float(self.log_sigmas[high]))

    def spaced(self, spacing: str, num_steps: int) -> list[float]:
        """Falling noise levels of a run, the last one 0; raises BadSettings."""
        return spaced_sigmas(spacing, num_steps, self)

    def threshold(self, window: float) -> float:
        """Noise above which DCI acts; raises BadSettings."""
        return window_threshold(window, self.sigma)

    def passed(self, sigma: float) -> float:
        """Share of the schedule that is noisier than this, 0..1: the window that closes here."""
        if sigma <= 0:
            return 1.0
        log_sigma = self.log_sigmas.new_tensor(math.log(sigma))
        high = min(max(int(torch.searchsorted(self.log_sigmas, log_sigma)), 1), len(self.log_sigmas) - 1)
        low, top = float(self.log_sigmas[high - 1]), float(self.log_sigmas[high])
        timestep = high - 1 + (float(log_sigma) - low) / (top - low)
        return min(max(1 - timestep / TRAINING_STEPS, 0.0), 1.0)

    def noised(self, noise: Tensor, sigma: float, start: Tensor | None = None) -> Tensor:
        """Where a run at this noise begins: noise over the latents to start from, or over none.

        At the schedule's full noise the variance-preserving latent is unit noise: noise * sqrt(1 + sigma^2) here.
        """
        is_full = sigma >= self.sigma_max * (1 - SAME_SIGMA)
        scaled = noise * (math.sqrt(1 + sigma**2) if is_full else sigma)
        return scaled if start is None else scaled + start.to(scaled)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The whole timestep whose noise is nearest in log sigma, int64, as the host chooses it."""
        table = _on(self, sigma.device, sigma.dtype)
        return (sigma.log()[..., None] - table).abs().argmin(dim=-1)


def place_in(timestep: Place, count: int) -> Place:
    """Where a training timestep (0..999, or a tensor of them) stands in a model's own table of `count` noise levels."""
    return timestep * count // TRAINING_STEPS


@lru_cache(maxsize=16)
def _on(schedule: Schedule, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The table where it is used, copied once: a copy to an accelerator at every step would stall it."""
    with torch.inference_mode(False):
        return schedule.log_sigmas.to(device, dtype)


@lru_cache(maxsize=1)
def sd_schedule() -> Schedule:
    """The schedule that Stable Diffusion 1.x, 2.x, XL and the tiny world were trained with."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_STEPS, dtype=torch.float64).square()
    alphas_cumprod = (1 - betas).cumprod(dim=0)
    return Schedule(((1 - alphas_cumprod) / alphas_cumprod).sqrt().log())


def normal_sigmas(schedule: Schedule, num_steps: int) -> list[float]:
    """Timesteps evenly from 999 to 0, then no noise: the host's `normal`; num_steps + 1 values."""
    step = (TRAINING_STEPS - 1) / max(num_steps - 1, 1)
    return [schedule.sigma(TRAINING_STEPS - 1 - step * i) for i in range(num_steps)] + [0.0]


def ddim_sigmas(schedule: Schedule, num_steps: int) -> list[float]:
    """Every (1000 // num_steps)-th timestep counted from 1, then no noise: DDIM's uniform spacing.

    Source: Song et al. 2021 (arXiv 2010.02502), released code. Where 1000 is no multiple of num_steps there are a few
    steps more than asked, there as here.
    """
    stride = max(TRAINING_STEPS // num_steps, 1)
    return [schedule.sigma(t) for t in reversed(range(1, TRAINING_STEPS, stride))] + [0.0]


def karras_sigmas(schedule: Schedule, num_steps: int) -> list[float]:
    """Evenly in sigma^(1/7), then no noise; num_steps + 1 values. Source: Karras et al. 2022 (arXiv 2206.00364)."""
    high, low = schedule.sigma_max ** (1 / KARRAS_RHO), schedule.sigma_min ** (1 / KARRAS_RHO)
    ramp = (i / max(num_steps - 1, 1) for i in range(num_steps))
    return [(high + r * (low - high)) ** KARRAS_RHO for r in ramp] + [0.0]


SPACINGS: dict[str, Callable[[Schedule, int], list[float]]] = {
    "normal": normal_sigmas,
    "ddim": ddim_sigmas,
    "karras": karras_sigmas,
}


def spaced_sigmas(spacing: str, num_steps: int, schedule: Schedule | None = None) -> list[float]:
    """Falling noise levels of a run, the last one 0; raises BadSettings."""
    if spacing not in SPACINGS:
        raise BadSettings(f"the spacing is {spacing!r}", f"one of {', '.join(SPACINGS)} is expected", "choose one")
    if not 1 <= num_steps <= TRAINING_STEPS:
        raise BadSettings(f"{num_steps} steps were asked for", "1 to 1000 are expected", "choose a number of steps")
    return SPACINGS[spacing](schedule or sd_schedule(), num_steps)


def window_threshold(window: float, sigma_at: Callable[[float], float]) -> float:
    """Noise above which DCI acts: sigma(1000 * (1 - window)), infinite for a closed window; raises BadSettings.

    window    fraction of the training schedule, 0..1, counted from its noisy end; not a fraction of the steps
    sigma_at  the model's own timestep -> sigma, continuous
    """
    check_window(window)
    return math.inf if window == 0 else sigma_at(TRAINING_STEPS * (1 - window))


def check_window(window: float) -> None:
    """Raises BadSettings unless the window is a fraction."""
    if not 0 <= window <= 1:
        raise BadSettings(f"the window is {window}", "a fraction in 0..1 is expected", "use 0.3, or 0 for off")


def is_open(sigma: float, threshold: float) -> bool:
    """Whether DCI acts at this noise: strictly above the threshold, rounding of hosts' float32 left out."""
    return sigma > threshold * (1 + SAME_SIGMA)


def open_steps(sigmas: Sequence[float], threshold: float) -> list[int]:
    """Steps of a run at which the window is open; step i goes from sigmas[i] to sigmas[i + 1]."""
    return [i for i, sigma in enumerate(sigmas[:-1]) if is_open(sigma, threshold)]


def split_noise(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(down, up): a step goes down to `down` without noise, then adds `up` of fresh noise.

    down^2 + up^2 = sigma_next^2
    eta  0 deterministic, 1 as ancestral sampling. Source: DDIM's equation 16 (arXiv 2010.02502) in this scale.
    """
    up = eta * sigma_next * math.sqrt(max(1 - (sigma_next / sigma) ** 2, 0.0))
    return math.sqrt(max(sigma_next**2 - up**2, 0.0)), up


def shifted(t: Tensor, shift: float) -> Tensor:
    """Times moved towards noise (1): shift t / (1 + (shift - 1) t). Source: Esser et al. 2024 (arXiv 2403.03206)."""
    return shift * t / (1 + (shift - 1) * t)


def logit_normal(uniform: Tensor, shift: float) -> Tensor:
    """Times of a rectified flow to train at, from uniform numbers in 0..1: the sigmoid of a normal number, shifted.

    Source: Esser et al. 2024 (arXiv 2403.03206).
    """
    return shifted(torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)).sigmoid(), shift)
