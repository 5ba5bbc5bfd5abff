"""The layers under the blocks of FLUX.1's transformer; parameter names as in Black Forest Labs' checkpoints.

Axes: b batch, n rows of the joint sequence (text rows first, then image rows), c channels, d channels of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm, scaled_dot_product_attention, silu

EPSILON = 1e-6


@dataclass(frozen=True)
class FluxParams:
    """Sizes of the transformer; defaults are FLUX.1 dev's.

    channels  of a latent
    patch     latents per image token, a side
    axes      channels of a head that turn with each of a row's three ids (0, y, x); text rows have ids 0
    theta     base of the rotary frequencies
    guidance  the model is distilled for guidance, whose strength it is told as a number
    """

    channels: int = 16
    patch: int = 2
    text_width: int = 4096
    vector_width: int = 768
    width: int = 3072
    heads: int = 24
    mlp_ratio: int = 4
    double_blocks: int = 19
    single_blocks: int = 38
    axes: tuple[int, int, int] = (16, 56, 56)
    theta: int = 10_000
    guidance: bool = True

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def token_channels(self) -> int:
        """Numbers in an image token before the first layer."""
        return self.channels * self.patch**2


def timestep_embedding(t: Tensor, width: int = 256) -> Tensor:
    """[b width] of t [b] in 0..1: cosines, then sines, of 1000 t at falling frequencies."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = 1000 * t[:, None].float() * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(t)


def rotary(ids: Tensor, params: FluxParams) -> Tensor:
    """Turns of the rows, complex [n d/2], from their ids [n 3]."""
    turns = []
    for axis, width in enumerate(params.axes):
        frequencies = params.theta ** -(torch.arange(0, width, 2, dtype=torch.float64, device=ids.device) / width)
        turns.append(ids[:, axis, None].double() * frequencies)
    angles = torch.cat(turns, dim=-1)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """x [b n ... d] with each neighbouring pair of channels turned, by turns [n d/2]."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    turns = turns.view(len(turns), *[1] * (x.ndim - 3), -1)
    return torch.view_as_real(pairs * turns).flatten(-2).to(x)


class RmsScale(nn.Module):
    """The learnt scale of a root-mean-square norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))


class QkNorm(nn.Module):
    """Norms of queries and keys."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm = RmsScale(head_dim), RmsScale(head_dim)

    def forward(self, qk: Tensor) -> Tensor:
        """Normed queries and keys, both in [b n 2 heads d]."""
        scales = torch.stack((self.query_norm.scale, self.key_norm.scale))[:, None]
        return rms_norm(qk, qk.shape[-1:], eps=EPSILON) * scales.to(qk)

    def keys(self, k: Tensor) -> Tensor:
        """Normed keys alone, [b n heads d]."""
        return rms_norm(k, k.shape[-1:], eps=EPSILON) * self.key_norm.scale.to(k)


class MlpEmbedder(nn.Module):
    """Two linear maps with SiLU between."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(silu(self.in_layer(x)))


class Modulation(nn.Module):
    """Shifts, scales and gates of a block from the vector [b c]: parts tensors [b 1 c]."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.lin, self.parts = nn.Linear(width, parts * width), parts

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        return self.lin(silu(vector))[:, None].chunk(self.parts, dim=-1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x normed over its channels, then scaled and shifted."""
    return torch.addcmul(shift, layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale)


def split_heads(qkv: Tensor, norm: QkNorm, heads: int) -> tuple[Tensor, Tensor]:
    """(normed queries and keys [b n 2 heads d], values [b n heads d]) of a fused map's output."""
    parts = rearrange(qkv, "b n (three heads d) -> b n three heads d", three=3, heads=heads)
    return norm(parts[:, :, :2]), parts[:, :, 2]


def attend(qk: Tensor, v: Tensor, turns: Tensor, mask: Tensor | None) -> Tensor:
    """Joint attention [b n (heads d)]; mask [b n], True where a key may be read."""
    q, k = turned(qk, turns).transpose(1, 3).unbind(2)  # each [b heads n d]
    keys = None if mask is None else mask[:, None, None]
    out = scaled_dot_product_attention(q, k, v.transpose(1, 2), attn_mask=keys)
    return out.transpose(1, 2).flatten(2)
