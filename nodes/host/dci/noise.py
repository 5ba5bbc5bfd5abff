"""Noise of the two branches: the concept's rows see what the plain run sees, the auxiliary's have their own stream."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ....dci_core.dci.branches import pair, unpair

NoiseSampler = Callable[[Any, Any], Tensor]
MOST_PLACES = 256  # of a stream that are looked through
ON_DEVICE = "_gpu"  # the host's suffix for SDE samplers that draw on the accelerator


def start_noise(noise: Tensor, seed: int, own_seed: int | None = None) -> Tensor:
    """Fresh noise like `noise` [b ...] from another seed; nothing where the run adds none.

    own_seed  of `noise`: a picture gets the same place in the new stream as it has in its own, whatever its batch
    """
    if not torch.count_nonzero(noise):
        return torch.zeros_like(noise)
    places = list(range(noise.shape[0])) if own_seed is None else places_in_stream(noise, own_seed)
    if places == list(range(noise.shape[0])):
        return drawn(noise, seed)
    rows = list(islice(drawn_rows(noise, seed), max(places) + 1))
    return torch.cat([rows[place] for place in places])


def places_in_stream(noise: Tensor, seed: int) -> list[int]:
    """Where each picture's noise stands in the stream of its seed, from 0; its row in the batch where it is not found.

    Pictures that were taken from a batch, repeated, or all given one seed have other places than rows.
    """
    places = list(range(noise.shape[0]))
    if torch.equal(drawn(noise, seed), noise):
        return places
    missing = set(places)
    for place, row in enumerate(islice(drawn_rows(noise, seed), MOST_PLACES)):
        found = {index for index in missing if torch.equal(noise[index : index + 1], row)}
        places = [place if index in found else old for index, old in enumerate(places)]
        missing -= found
        if not missing:
            break
    return places


def drawn(like: Tensor, seed: int) -> Tensor:
    """Noise of a whole batch, as the host draws it on the CPU."""
    return next(_stream(like, like.shape, seed))


def drawn_rows(like: Tensor, seed: int) -> Iterator[Tensor]:
    """Noise of one picture after another from the same stream, [1 ...] each."""
    return _stream(like, like[:1].shape, seed)


def _stream(like: Tensor, shape: torch.Size, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(shape, generator=generator, dtype=torch.float32).to(like)


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
