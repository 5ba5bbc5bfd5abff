"""U-Nets of SD 1.5's and SDXL's shape with random weights, from the small world's blocks.

Same widths, depths, heads and layer names as the real ones, so a step costs what theirs costs. SDXL's size vector is
left out: it adds two small matrices to each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dci_core.attention.layers import LayerId
from dci_core.tiny.model import TinyModel
from dci_core.tiny.text import TextEncoder, TextParams
from dci_core.tiny.unet import UNet
from dci_core.tiny.unet_blocks import Downsample, ResBlock, SpatialTransformer, TransformerBlock, UNetParams, Upsample

CLIP_L = TextParams(entries=49408, width=768, layers=12, heads=12)


@dataclass(frozen=True)
class Shape:
    """A U-Net's sizes.

    mults   channels of each level, in units of 320
    depths  transformer blocks at each level; 0 where there are none
    middle  transformer blocks in the middle
    heads   of each attention, or None for 64 channels each
    """

    family: str
    mults: Sequence[int]
    depths: Sequence[int]
    middle: int
    context_width: int
    heads: int | None
    base: int = 320


SD15 = Shape("sd15", (1, 2, 4, 4), (1, 1, 1, 0), 1, 768, 8)
SDXL = Shape("sdxl", (1, 2, 4), (0, 2, 10), 10, 2048, None)


class ShapedUNet(UNet):
    """The small world's U-Net with two blocks a level and other sizes."""

    def __init__(self, shape: Shape) -> None:
        nn.Module.__init__(self)
        self.params = UNetParams(in_channels=4, model_channels=shape.base, context_width=shape.context_width)
        base, time_width = shape.base, 4 * shape.base
        self.time_embed = nn.Sequential(nn.Linear(base, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, base, 3, padding=1)])])
        skips, width = [base], base
        for level, mult in enumerate(shape.mults):
            for _ in range(2):
                res = ResBlock(width, width := base * mult, time_width)
                attend = attention(shape, width, "input", len(self.input_blocks), shape.depths[level])
                self.input_blocks.append(nn.ModuleList([res, *attend]))
                skips.append(width)
            if level + 1 < len(shape.mults):
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)
        ends = [ResBlock(width, width, time_width) for _ in range(2)]
        self.middle_block = nn.ModuleList([ends[0], *attention(shape, width, "middle", 0, shape.middle), ends[1]])
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(shape.mults))):
            for i in range(3):
                res = ResBlock(width + skips.pop(), width := base * mult, time_width)
                attend = attention(shape, width, "output", len(self.output_blocks), shape.depths[level])
                rise = [Upsample(width)] * (i == 2 and level > 0)
                self.output_blocks.append(nn.ModuleList([res, *attend, *rise]))
        self.out = nn.Sequential(nn.GroupNorm(32, base), nn.SiLU(), nn.Conv2d(base, 4, 3, padding=1))


def attention(shape: Shape, width: int, stage: str, block: int, depth: int) -> list[nn.Module]:
    """A spatial transformer of that many blocks, or nothing."""
    if depth == 0:
        return []
    head_width = 64 if shape.heads is None else width // shape.heads
    params = UNetParams(context_width=shape.context_width, head_width=head_width)
    made = SpatialTransformer(width, params, LayerId(stage, block))
    made.transformer_blocks = nn.ModuleList(
        [TransformerBlock(width, params, LayerId(stage, block, index)) for index in range(depth)]
    )
    return [made]


def filled(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The network, made on `meta`, with random weights that keep its activations near one; frozen."""
    network = network.to_empty(device=device).to(dtype).eval().requires_grad_(False)
    pattern = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            repeats = -(-weight.numel() // len(pattern))
            fan = weight[0].numel() if "embedding" not in name else 2500
            weight.copy_((pattern * fan**-0.5).repeat(repeats)[: weight.numel()].view(weight.shape))
        else:
            weight.fill_(float(name.endswith("weight")))  # norms let everything through, biases are zero
    return network


def shaped_model(shape: Shape, device: torch.device, dtype: torch.dtype) -> TinyModel:
    """A model of that shape with CLIP L's text encoder; for SDXL the texts must come from elsewhere."""
    with torch.device("meta"), torch.no_grad():
        unet, text = ShapedUNet(shape), TextEncoder(CLIP_L)
    with torch.no_grad():
        unet, text = filled(unet, device, dtype), filled(text, device, torch.float32)
    return TinyModel(text, unet, family=shape.family)


def random_text(rows: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[rows 77 width]"""
    return torch.randn(rows, 77, width, generator=torch.Generator().manual_seed(1)).to(device, dtype)
