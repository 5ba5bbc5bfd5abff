"""The training loss: how far the predicted noise is from the noise that was added."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["eps", "v"]
SD_STEPS = 1000
SD_BETAS = (0.00085, 0.012)  # Stable Diffusion's schedule, linear in sqrt(beta)


def sd_sigmas() -> Tensor:
    """[1000] noise levels of Stable Diffusion's training schedule, x = x0 + sigma * noise, quietest first."""
    low, high = (beta**0.5 for beta in SD_BETAS)
    kept = torch.cumprod(1 - torch.linspace(low, high, SD_STEPS, dtype=torch.float64) ** 2, 0)
    return ((1 - kept) / kept).sqrt().float()


def noise_of(x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """The noise that a clean estimate implies: (x - x0) / sigma; x, x0 [rows c h w], sigma [rows]."""
    return (x.float() - x0.float()) / sigma.float()[:, None, None, None]


def masked_mean(error: Tensor, mask: Tensor | None = None) -> Tensor:
    """[rows], mean over channels and places; a mask [rows 1 h w] weighs the places and is divided out again."""
    if mask is None:
        return error.mean(dim=(1, 2, 3))
    weight = mask.expand_as(error)
    return (error * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))


def noise_loss(
    predicted: Tensor, target: Tensor, sigma: Tensor, mask: Tensor | None = None, prediction: Prediction = "eps"
) -> Tensor:
    """Mean squared error of the noise, averaged over rows; predicted, target [rows c h w].

    For a v-predicting model the error of v is that of the noise times sqrt(1 + sigma^2), at the same x.
    """
    rows = masked_mean((predicted - target) ** 2, mask)
    return (rows * (1 + sigma.float() ** 2) if prediction == "v" else rows).mean()
