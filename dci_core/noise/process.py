"""How noise is added and what a network answers: the seam between trainings and kinds of model.

`Diffusion` is that of eps and v models, `RectifiedFlow` that of flows. Shapes: rows c h w; a mask is [rows 1 h w].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import BadModel
from .losses import masked_mean, noise_loss, noise_of
from .schedule import TRAINING_STEPS, logit_normal, sd_schedule

FLOW = "flow"  # what a family's `prediction` says of a rectified flow


class NoiseProcess(Protocol):
    """What a training asks."""

    @property
    def sigmas(self) -> Tensor:
        """[n], noise level of each training timestep, on the CPU; timesteps are drawn evenly."""

    def noised(self, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """x at sigma [rows]."""

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """What the network should answer."""

    def answer(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """What a clean estimate at x says in the target's terms."""

    def loss(self, answer: Tensor, target: Tensor, sigma: Tensor, mask: Tensor | None = None) -> Tensor:
        """How far the answer is from the target, a number."""


@dataclass(frozen=True, eq=False)
class Diffusion:
    """x = x0 + sigma noise; the network answers the noise ("eps"), or v, whose error is weighed accordingly.

    data_std  spread of the latents that v is made for: EDM's sigma_data
    """

    sigmas: Tensor
    prediction: str = "eps"
    data_std: float = 1.0

    def noised(self, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """x0 + sigma noise."""
        return clean + sigma[:, None, None, None] * noise

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """The noise."""
        return noise

    def answer(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """The noise that a clean estimate implies."""
        return noise_of(x, x0, sigma)

    def loss(self, answer: Tensor, target: Tensor, sigma: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean squared error of what the network was trained to give."""
        return noise_loss(answer, target, sigma, mask, self.prediction, self.data_std)


@dataclass(frozen=True, eq=False)
class RectifiedFlow:
    """x = (1 - sigma) x0 + sigma noise, sigma in 0..1; the network answers the velocity, noise - x0.

    Source: Liu et al. 2023 (arXiv 2209.03003); times as in Esser et al. 2024 (arXiv 2403.03206).
    """

    sigmas: Tensor

    @classmethod
    def shifted(cls, shift: float) -> RectifiedFlow:
        """Times by the sigmoid of a normal number, shifted towards noise: the middle of each thousandth of the odds."""
        return cls(logit_normal((torch.arange(TRAINING_STEPS) + 0.5) / TRAINING_STEPS, shift))

    def noised(self, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """(1 - sigma) x0 + sigma noise."""
        return torch.lerp(clean, noise, sigma[:, None, None, None])

    def target(self, clean: Tensor, noise: Tensor) -> Tensor:
        """The velocity."""
        return noise - clean

    def answer(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """The velocity that a clean estimate implies: (x - x0) / sigma, as the noise is in a diffusion."""
        return noise_of(x, x0, sigma)

    def loss(self, answer: Tensor, target: Tensor, sigma: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean squared error of the velocity."""
        return masked_mean((answer - target) ** 2, mask).mean()


def sd_sigmas() -> Tensor:
    """[1000] noise levels of Stable Diffusion's training timesteps."""
    return sd_schedule().log_sigmas.exp().float()


def process_of(
    prediction: str, sigmas: Tensor | None = None, shift: float = 1.0, data_std: float = 1.0
) -> NoiseProcess:
    """The process that a model was trained with; raises BadModel.

    prediction  "eps", "v" or "flow", as its family says
    sigmas      [n], noise level of each training timestep; None: Stable Diffusion's, or the flow's own times
    shift       of a flow's times towards noise
    data_std    spread of the latents that a v model was made for
    """
    levels = None if sigmas is None else sigmas.cpu()
    makes: Mapping[str, Callable[[], NoiseProcess]] = {
        "eps": lambda: Diffusion(sd_sigmas() if levels is None else levels),
        "v": lambda: Diffusion(sd_sigmas() if levels is None else levels, "v", data_std),
        FLOW: lambda: RectifiedFlow.shifted(shift) if levels is None else RectifiedFlow(levels),
    }
    if prediction not in makes:
        raise BadModel(f"the model predicts {prediction!r}", f"one of {', '.join(makes)} was expected", "use another")
    return makes[prediction]()
