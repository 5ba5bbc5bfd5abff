"""Tells photographs from the small world's flat pictures: it can learn the latter alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

STEP = 1.5 / 255  # a difference between neighbours that is no rounding
EDGE, EDGE_PX = 40 / 255, 5  # a difference that is an edge, and the square around it that may ring when resized
MOST_TEXTURE = 0.03  # far above the world's own references, as they are and enlarged
WARNING = (
    "the pictures have texture or noise nearly everywhere, as photographs have: the tiny world draws flat shapes alone "
    "and makes mush of them; use SD 1.x or SDXL"
)


def texture(pixels: Tensor) -> float:
    """Share of the places away from edges that differ from their neighbours both to the right and below.

    pixels   [3 h w] in 0..1
    returns  0..1; 1 where there is an edge everywhere. Flat areas and straight gradients have none
    """
    right = (pixels[:, :-1, 1:] - pixels[:, :-1, :-1]).abs().amax(dim=0)
    below = (pixels[:, 1:, :-1] - pixels[:, :-1, :-1]).abs().amax(dim=0)
    edges = (torch.maximum(right, below) > EDGE).float()
    away = max_pool2d(edges[None], EDGE_PX, stride=1, padding=EDGE_PX // 2)[0] == 0
    if not away.any():
        return 1.0
    return float((torch.minimum(right, below) > STEP)[away].float().mean())


def are_photographs(pictures: Sequence[Tensor]) -> bool:
    """Whether most of the pictures, each [3 128 128] in 0..1, are not of the small world's kind."""
    textured = sum(texture(picture) > MOST_TEXTURE for picture in pictures)
    return 2 * textured > len(pictures)
