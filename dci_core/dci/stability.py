"""Will shared guidance hold? It pulls the auxiliary latent onto the concept latent like a spring, and can overshoot.

Both branches use the concept latent's unconditional noise estimate, so their difference D = y - x goes through a step
as D' = f * D (unit Gaussian data, variance-preserving units). |f| >= 1 grows. Source: own computation, methods 2.4.

Above Stable Diffusion's noisiest level (zero terminal SNR goes to 4519) there is no spring: a latent that is all noise
says nothing of its picture, and noise that is borrowed from another latent would be wrong by all of sigma.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..noise.schedule import is_open, open_steps, sd_schedule, split_noise

MOST_STEPS = 1000


def spring_share(sigma: float) -> float:
    """How far a borrowed estimate x0 moves with the latent: by all of y - x, since both share the estimate of noise.

    Above Stable Diffusion's noisiest level by 1 / (1 + sigma^2) of it, as it does for unit Gaussian data.
    """
    return 1 / (1 + sigma * sigma) if is_open(sigma, sd_schedule().sigma_max) else 1.0


def spring_factor(sigma: float, sigma_next: float, cfg: float, eta: float = 0.0) -> float:
    """f of one step of shared guidance, in variance-preserving units."""
    down, _ = split_noise(sigma, sigma_next, eta)
    scale = math.sqrt((1 + sigma**2) / (1 + sigma_next**2))  # sqrt(alpha_bar_next / alpha_bar)
    return scale * (1 - cfg * sigma * (sigma - down) / (1 + sigma**2))


def spring_factors(sigmas: Sequence[float], cfg: float, threshold: float, eta: float = 0.0) -> list[tuple[int, float]]:
    """(step, f) of every step at which the window is open and there is a spring."""
    steps = [i for i in open_steps(sigmas, threshold) if sigmas[i] > 0 and spring_share(sigmas[i]) == 1]
    return [(i, spring_factor(sigmas[i], sigmas[i + 1], cfg, eta)) for i in steps]


def worst_factor(sigmas: Sequence[float], cfg: float, threshold: float, eta: float = 0.0) -> tuple[int, float]:
    """(step, f) where |f| is largest; (0, 0.0) when the window never opens."""
    return max(spring_factors(sigmas, cfg, threshold, eta), key=lambda step: abs(step[1]), default=(0, 0.0))


def shared_warning(sigmas: Sequence[float], cfg: float, threshold: float, eta: float = 0.0) -> str | None:
    """A sentence when shared guidance would overshoot in this run, with what cures it; else None. Raises nothing.

    cfg 1 has no unconditional rows, so nothing is shared and nothing can overshoot.
    """
    step, factor = worst_factor(sigmas, cfg, threshold, eta)
    if cfg == 1 or not math.isfinite(cfg) or abs(factor) < 1:
        return None
    steps, scale = steps_that_hold(sigmas, cfg, threshold, eta), cfg_that_holds(sigmas, threshold, cfg, eta)
    cures = [
        *([f"{steps} steps or more"] if steps else []),
        *([f"a CFG of {scale:.1f} or less"] if scale else []),
        "guidance `aligned` or `separate`",
    ]
    return (
        f"shared guidance overshoots: its factor is {factor:.2f} at step {step + 1} of {len(sigmas) - 1} "
        f"with CFG {cfg:g}; it must stay within -1..1, or the auxiliary picture runs away; use {', or '.join(cures)}"
    )


def cfg_that_holds(sigmas: Sequence[float], threshold: float, cfg: float, eta: float = 0.0) -> float | None:
    """The largest CFG below `cfg`, in tenths and above 1, at which every |f| < 1; None where there is none."""
    tenths = range(math.ceil(cfg * 10) - 1, 10, -1)
    return next((t / 10 for t in tenths if abs(worst_factor(sigmas, t / 10, threshold, eta)[1]) < 1), None)


def steps_that_hold(sigmas: Sequence[float], cfg: float, threshold: float, eta: float = 0.0) -> int | None:
    """The smallest larger step count, of the same curve of noise levels, at which every |f| < 1; None above 1000."""
    if not all(0 < sigma < math.inf for sigma in sigmas[:-1]):
        return None
    counts = range(len(sigmas), MOST_STEPS + 1)
    return next((n for n in counts if abs(worst_factor(resampled(sigmas, n), cfg, threshold, eta)[1]) < 1), None)


def resampled(sigmas: Sequence[float], num_steps: int) -> list[float]:
    """The same curve in num_steps steps, linear in log sigma between its points; the last value as it was."""
    logs = [math.log(sigma) for sigma in sigmas[:-1]]
    last = len(logs) - 1

    def at(place: float) -> float:
        low = min(int(place), last)
        return math.exp(logs[low] + (place - low) * (logs[min(low + 1, last)] - logs[low]))

    return [at(i * last / max(num_steps - 1, 1)) for i in range(num_steps)] + [sigmas[-1]]


def window_warning(sigmas: Sequence[float], threshold: float) -> str | None:
    """A sentence when a run starts below its window, so that DCI never acts; else None."""
    if not math.isfinite(threshold) or not sigmas or open_steps(sigmas, threshold):
        return None
    return (
        f"DCI never acted: the run starts at noise {sigmas[0]:.3g} and the window ends at {threshold:.3g}; "
        "start from more noise (a higher denoise), or widen the window"
    )
