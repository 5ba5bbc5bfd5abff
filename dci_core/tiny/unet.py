"""A small U-Net in Stable Diffusion's layout; parameter names as in LDM checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention.call import AttentionRule
from ..attention.layers import LayerId
from .unet_blocks import (
    Attention,
    Condition,
    Downsample,
    ResBlock,
    SpatialTransformer,
    TransformerBlock,
    UNetParams,
    Upsample,
    timestep_embedding,
)

TINY_PARAMS = UNetParams()


class UNet(nn.Module):
    """Predicts the noise in a latent."""

    def __init__(self, params: UNetParams = TINY_PARAMS) -> None:
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
            for part in block.children():
                h = part(h) if isinstance(part, nn.Conv2d) else part(h, at)
            skips.append(h)
        for part in self.middle_block:
            h = part(h, at)
        for block in self.output_blocks:
            h = torch.cat((h, skips.pop()), dim=1)
            for part in block.children():
                h = part(h, skips[-1].shape[2:]) if isinstance(part, Upsample) else part(h, at)
        return self.out(h)

    def cross_attentions(self) -> dict[LayerId, Attention]:
        """Every text cross-attention, in the order of the forward pass."""
        return {m.layer: m.attn2 for m in self.modules() if isinstance(m, TransformerBlock)}
