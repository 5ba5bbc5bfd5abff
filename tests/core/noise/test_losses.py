"""The loss, against its definition."""

from __future__ import annotations

import pytest
import torch

from dci_core.noise.losses import masked_mean, noise_loss, noise_of

SOURCE = torch.Generator().manual_seed(2)
SIGMA = torch.tensor([0.03, 1.0, 14.0])


def rows() -> torch.Tensor:
    return torch.randn(3, 4, 5, 5, generator=SOURCE)


def test_the_true_clean_latent_implies_the_noise_that_was_added() -> None:
    x0, noise = rows(), rows()
    x = x0 + SIGMA[:, None, None, None] * noise
    assert torch.allclose(noise_of(x, x0, SIGMA), noise, atol=1e-4)
    assert noise_loss(noise, noise, SIGMA) == 0


def test_rows_weigh_alike_and_a_mask_is_divided_out() -> None:
    predicted, target = rows(), rows()
    error = (predicted - target) ** 2
    assert noise_loss(predicted, target, SIGMA) == pytest.approx(error.mean().item(), rel=1e-5)
    mask = torch.zeros(3, 1, 5, 5)
    mask[:, :, 1:3, 1:3] = 0.5
    mask[0] = 1
    expected = torch.stack([error[0].mean(), error[1, :, 1:3, 1:3].mean(), error[2, :, 1:3, 1:3].mean()])
    assert torch.allclose(masked_mean(error, mask), expected, rtol=1e-5)


def test_the_loss_of_v_prediction_is_the_error_of_v() -> None:
    x0, noise, guess = rows(), rows(), rows()
    level = SIGMA[:, None, None, None]
    x = x0 + level * noise

    def v(clean: torch.Tensor) -> torch.Tensor:  # alpha * noise - sigma_vp * x0, in variance-preserving units
        return (noise_of(x, clean, SIGMA) - level * clean) / (1 + level**2).sqrt()

    expected = ((v(guess) - v(x0)) ** 2).mean().item()
    loss = noise_loss(noise_of(x, guess, SIGMA), noise, SIGMA, prediction="v")
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_edm_is_the_error_of_its_network() -> None:
    x0, noise, guess, std = rows(), rows(), rows(), 0.5
    level = SIGMA[:, None, None, None]
    x = x0 + level * noise

    def network(clean: torch.Tensor) -> torch.Tensor:  # x0 = c_skip x + c_out F
        skip, out = std**2 / (level**2 + std**2), level * std / (level**2 + std**2).sqrt()
        return (clean - skip * x) / out

    expected = ((network(guess) - network(x0)) ** 2).mean().item()
    loss = noise_loss(noise_of(x, guess, SIGMA), noise, SIGMA, prediction="v", data_std=std)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
