"""A small U-Net in Stable Diffusion's layout; parameter names as in LDM checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from ..attention import AttentionCall, AttentionRule
from ..layers import LayerId


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
        return self.skip_connection(x) + self.out_layers(h)  # type: ignore[no-any-return]


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
        return self.to_out(rearrange(out, "b heads n d -> b n (heads d)"))  # type: ignore[no-any-return]

    def ruled(self, x: Tensor, context: Tensor, rule: AttentionRule, layer: LayerId, grid: tuple[int, int]) -> Tensor:
        """The same with a rule between the projections."""
        call = AttentionCall(self.to_q(x), self.to_k(context), self.to_v(context), context, self.heads, grid, layer)
        return self.to_out(rule(call))  # type: ignore[no-any-return]


class GEGLU(nn.Module):
    """A linear map whose second half gates the first."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * gelu(gate)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """GEGLU and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


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
        return x + self.ff(self.norm3(x))  # type: ignore[no-any-return]


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
        return x + self.proj_out(rearrange(h, "b (h w) c -> b c h w", h=height))  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """Half the size, by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, at: Condition) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Twice the size, or the size given, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(interpolate(x, size=size, mode="nearest"))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Predicts the noise in a latent."""

    def __init__(self, params: UNetParams = UNetParams()) -> None:
        super().__init__()
        self.params = params
        base, time_width = params.model_channels, 4 * params.model_channels
        widths = [base * mult for mult in params.channel_mult]
        self.time_embed = nn.Sequential(nn.Linear(base, time_width), nn.SiLU(), nn.Linear(time_width, time_width))

        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(params.in_channels, base, 3, padding=1)])])
        skips, width = [base], base
        for level, wide in enumerate(widths):
            layer = LayerId("input", len(self.input_blocks))
            res, attend = ResBlock(width, wide, time_width), SpatialTransformer(wide, params, layer)
            self.input_blocks.append(nn.ModuleList([res, attend]))
            skips.append(wide)
            if level + 1 < len(widths):
                self.input_blocks.append(nn.ModuleList([Downsample(wide)]))
                skips.append(wide)
            width = wide

        middle = SpatialTransformer(width, params, LayerId("middle", 0))
        self.middle_block = nn.ModuleList(
            [ResBlock(width, width, time_width), middle, ResBlock(width, width, time_width)]
        )

        self.output_blocks = nn.ModuleList()
        for level, wide in reversed(list(enumerate(widths))):
            for last in (False, True):
                layer = LayerId("output", len(self.output_blocks))
                res, attend = ResBlock(width + skips.pop(), wide, time_width), SpatialTransformer(wide, params, layer)
                self.output_blocks.append(nn.ModuleList([res, attend] + [Upsample(wide)] * (last and level > 0)))
                width = wide
        self.out = nn.Sequential(nn.GroupNorm(32, base), nn.SiLU(), nn.Conv2d(base, params.in_channels, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        rule: AttentionRule | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The noise in x.

        x          [rows c h w], latents in the variance-preserving scale
        timesteps  [rows], 0..999
        context    [rows t c]
        """
        time = self.time_embed(timestep_embedding(timesteps, self.params.model_channels).to(x.dtype))
        at = Condition(time, context, mask, rule)
        h, skips = x, []
        for block in self.input_blocks:
            for part in block:  # type: ignore[attr-defined]
                h = part(h) if isinstance(part, nn.Conv2d) else part(h, at)
            skips.append(h)
        for part in self.middle_block:
            h = part(h, at)
        for block in self.output_blocks:
            h = torch.cat((h, skips.pop()), dim=1)
            for part in block:  # type: ignore[attr-defined]
                h = part(h, skips[-1].shape[2:]) if isinstance(part, Upsample) else part(h, at)
        return self.out(h)  # type: ignore[no-any-return]

    def cross_attentions(self) -> dict[LayerId, Attention]:
        """Every text cross-attention, in the order of the forward pass."""
        return {m.layer: m.attn2 for m in self.modules() if isinstance(m, TransformerBlock)}
