"""The codec: 128-pixel pictures to 16 x 16 latents of 8 channels and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

FACTOR = 8
LATENT_CHANNELS = 8


class Residual(nn.Module):
    """Two convolutions beside a straight path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(silu(self.first(silu(x))))


def _encoder() -> nn.Sequential:
    return nn.Sequential(
        nn.PixelUnshuffle(4),
        nn.Conv2d(48, 48, 3, padding=1),
        Residual(48),
        nn.Conv2d(48, 96, 4, stride=2, padding=1),
        Residual(96),
        Residual(96),
        nn.Conv2d(96, LATENT_CHANNELS, 3, padding=1),
    )


def _decoder() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(LATENT_CHANNELS, 96, 3, padding=1),
        Residual(96),
        Residual(96),
        nn.Conv2d(96, 4 * 56, 3, padding=1),
        nn.PixelShuffle(2),
        Residual(56),
        nn.Conv2d(56, 4 * 28, 3, padding=1),
        nn.PixelShuffle(2),
        nn.SiLU(),
        nn.Conv2d(28, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )


class Codec(nn.Module):
    """Encoder and decoder; latents are standardised by the buffers mean and std, [1 c 1 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = _encoder(), _decoder()
        for name, start in (("mean", 0.0), ("std", 1.0)):
            self.register_buffer(name, torch.full((1, LATENT_CHANNELS, 1, 1), start))

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents [b 8 h/8 w/8], about unit variance, of pictures [b 3 h w] in 0..1."""
        return (self.encoder(pictures * 2 - 1) - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [b 3 h w] in 0..1 of latents [b 8 h/8 w/8]."""
        return (self.decoder(latents * self.std + self.mean) / 2 + 0.5).clamp(0, 1)
