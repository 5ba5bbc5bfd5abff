"""Noise of the two branches: the concept's rows see what the plain run sees, the auxiliary's have their own stream."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....dci_core.dci.branches import pair, unpair

NoiseSampler = Callable[[Any, Any], Tensor]
ON_DEVICE = "_gpu"  # the host's suffix for SDE samplers that draw on the accelerator


def start_noise(noise: Tensor, seed: int) -> Tensor:
    """Fresh noise like `noise` from another seed; nothing where the run adds none."""
    if not torch.count_nonzero(noise):
        return torch.zeros_like(noise)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(noise.shape, generator=generator, dtype=torch.float32)
    return drawn.to(noise)


def with_branch_noise(sampler: Any, auxiliary_seed: int, is_one: bool = False) -> Any:
    """A copy of a host sampler that draws its later noise for each branch apart; others are returned as they are.

    Only those that accept a `noise_sampler` can be told; what draws inside (s_churn) keeps one stream for all rows.
    """
    function = getattr(sampler, "sampler_function", None)
    if function is None or "noise_sampler" not in inspect.signature(function).parameters:
        return sampler
    if sampler.extra_options.get("noise_sampler") is not None:
        return sampler
    mine = copy.copy(sampler)
    mine.sampler_function = drawing_apart(function, auxiliary_seed, is_one)
    return mine


def drawing_apart(function: Callable[..., Tensor], auxiliary_seed: int, is_one: bool = False) -> Callable[..., Tensor]:
    """The sampler function, given a noise sampler over both branches; is_one: the same noise for every auxiliary."""

    def sample(model: Any, x: Tensor, sigmas: Tensor, **kwargs: Any) -> Tensor:
        kwargs.pop("noise_sampler", None)
        seed = (kwargs.get("extra_args") or {}).get("seed")
        half, _ = unpair(x)
        mine = noise_like(function, half, sigmas, seed)
        other = noise_like(function, half[:1] if is_one else half, sigmas, auxiliary_seed)

        def both(sigma: Any, sigma_next: Any) -> Tensor:
            fresh = mine(sigma, sigma_next)
            return pair(fresh, other(sigma, sigma_next).expand_as(fresh))

        return function(model, x, sigmas, noise_sampler=both, **kwargs)

    sample.__name__ = getattr(function, "__name__", "sample")
    return sample


def noise_like(function: Callable[..., Tensor], x: Tensor, sigmas: Tensor, seed: int | None) -> NoiseSampler:
    """The noise sampler that the function itself would have made for x."""
    from comfy.k_diffusion import sampling

    name = getattr(function, "__name__", "")
    if "dpmpp" in name and "sde" in name:
        above = sigmas[sigmas > 0]
        tree = sampling.BrownianTreeNoiseSampler
        return tree(x, above.min(), sigmas.max(), seed=seed, cpu=not name.endswith(ON_DEVICE))
    return sampling.default_noise_sampler(x, seed=seed)


def freshness(sampler: Any) -> float:
    """The share of fresh noise (eta) in a host sampler's steps, as far as its name tells."""
    name = getattr(getattr(sampler, "sampler_function", None), "__name__", "")
    given = getattr(sampler, "extra_options", {}).get("eta")
    return float(given) if given is not None else float("ancestral" in name or name.endswith(("_ddpm", "_lcm")))
