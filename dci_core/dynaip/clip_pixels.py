"""Pictures as CLIP vision models read them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(pictures: Tensor, side: int) -> Tensor:
    """Pictures [b 3 h w] in 0..1 as [b 3 side side]: resized, cut in the middle, 8 bits a channel, standardised."""
    height, width = pictures.shape[-2:]
    if (height, width) != (side, side):
        scale = side / min(height, width)
        size = (round(scale * height), round(scale * width))
        pictures = interpolate(pictures, size=size, mode="bicubic", antialias=True)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        pictures = pictures[..., top : top + side, left : left + side]
    rounded = (255 * pictures).clamp(0, 255).round() / 255
    mean, std = (torch.tensor(value).to(rounded)[:, None, None] for value in (MEAN, STD))
    return (rounded - mean) / std
