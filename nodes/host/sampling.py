"""The host's stock sampler, called by our one-node form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .dci.plan import DbimRecord


@dataclass(frozen=True)
class SamplerChoice:
    """KSampler's widgets."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0


def names() -> tuple[list[str], list[str]]:
    """The host's samplers and schedulers."""
    from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES

    return list(SAMPLER_NAMES), list(SCHEDULER_NAMES)


def sample(model: Any, positive: Any, negative: Any, latent: dict[str, Any], how: SamplerChoice) -> dict[str, Any]:
    """What KSampler gives."""
    from nodes import common_ksampler

    rest = (how.sampler_name, how.scheduler, positive, negative, latent)
    return common_ksampler(model, how.seed, how.steps, how.cfg, *rest, denoise=how.denoise)[0]


def decode(vae: Any, latent: dict[str, Any]) -> Tensor:
    """What VAE Decode gives, [b h w 3]."""
    from nodes import VAEDecode

    return VAEDecode().decode(vae, latent)[0]


def auxiliary_latent(record: DbimRecord, latent: dict[str, Any]) -> dict[str, Any]:
    """The auxiliary branch's last latent; the concept's own where there was no second branch."""
    samples = latent["samples"] if record.auxiliary is None else record.auxiliary.to(latent["samples"])
    return {**latent, "samples": samples}
