"""The training loss: how far the predicted noise is from the noise that was added."""

from __future__ import annotations

from torch import Tensor


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
    predicted: Tensor,
    target: Tensor,
    sigma: Tensor,
    mask: Tensor | None = None,
    prediction: str = "eps",
    data_std: float = 1.0,
) -> Tensor:
    """Mean squared error of the noise, averaged over rows; predicted, target [rows c h w].

    For a v-predicting model the error of v is that of the noise times sqrt(1 + sigma^2), at the same x. So is that of
    EDM's network, with sigma counted in the spread of the data that it was made for (data_std).
    Source: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """
    rows = masked_mean((predicted - target) ** 2, mask)
    return (rows * (1 + (sigma.float() / data_std) ** 2) if prediction == "v" else rows).mean()
