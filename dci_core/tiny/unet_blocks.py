"""The blocks of the small U-Net; parameter names as in LDM checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from ..attention.call import AttentionCall, AttentionRule
from ..attention.layers import LayerId


@dataclass(frozen=True)
class UNetParams:
    """Sizes of the U-Net; defaults are the tiny world's."""

    in_channels: int = 8
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2, 2)
    context_width: int = 128
    head_width: int = 32


@dataclass(frozen=True)
class Condition:
    """What every block of one forward may look at.

    time     [rows 4*model_channels]
    context  [rows t c]
    mask     [rows t] bool, False hides a text slot; training of the base only
    rule     acts in every cross-attention
    """

    time: Tensor
    context: Tensor
    mask: Tensor | None = None
    rule: AttentionRule | None = None


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Cosines, then sines of the training timestep 0..999: [rows] -> [rows width]."""
    rates = torch.exp(torch.arange(width // 2, device=timesteps.device) * (-2 * math.log(10000) / width))
    angles = timesteps.float()[:, None] * rates[None]
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class ResBlock(nn.Module):
    """Two convolutions around the time embedding, with a skip."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outputs), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, at: Condition) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(at.time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Multi-head attention of image tokens on themselves or on text."""

    def __init__(self, width: int, context_width: int, head_width: int) -> None:
        super().__init__()
        self.heads = width // head_width
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            rearrange(t, "b n (heads d) -> b heads n d", heads=self.heads)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        keep = None if mask is None else mask[:, None, None, :]
        out = scaled_dot_product_attention(q, k, v, attn_mask=keep)
        return self.to_out(rearrange(out, "b heads n d -> b n (heads d)"))

    def ruled(self, x: Tensor, context: Tensor, rule: AttentionRule, layer: LayerId, grid: tuple[int, int]) -> Tensor:
        """The same with a rule between the projections."""
        call = AttentionCall(self.to_q(x), self.to_k(context), self.to_v(context), context, self.heads, grid, layer)
        return self.to_out(rule(call))


class GEGLU(nn.Module):
    """A linear map whose second half gates the first."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward."""

    def __init__(self, width: int, params: UNetParams, layer: LayerId) -> None:
        super().__init__()
        self.layer = layer
        self.attn1 = Attention(width, width, params.head_width)
        self.attn2 = Attention(width, params.context_width, params.head_width)
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, at: Condition, grid: tuple[int, int]) -> Tensor:
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        n = self.norm2(x)
        if at.rule is None:
            x = x + self.attn2(n, at.context, at.mask)
        else:
            x = x + self.attn2.ruled(n, at.context, at.rule, self.layer, grid)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the positions of a feature map."""

    def __init__(self, width: int, params: UNetParams, layer: LayerId) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, params, layer)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, at: Condition) -> Tensor:
        height, width = x.shape[2:]
        h = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            h = block(h, at, (height, width))
        return x + self.proj_out(rearrange(h, "b (h w) c -> b c h w", h=height))


class Downsample(nn.Module):
    """Half the size, by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, at: Condition) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the size, or the size given, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(interpolate(x, size=size, mode="nearest"))
