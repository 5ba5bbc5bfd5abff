"""Where a subject is read: masks of any size on the token grid, and the rule for rows that several subjects cover.

Source: dynaip.md section 5 (candidate 1), reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import BadSettings

BOXES = {"left": (0, 0, 0.5, 1), "right": (0.5, 0, 0.5, 1), "top": (0, 0, 1, 0.5), "bottom": (0, 0.5, 1, 0.5)}
BOX_CELLS = 64  # of a box's mask, each way; its edges are shared out among them


def read_box(text: str) -> Tensor | None:
    """A box as a mask [BOX_CELLS BOX_CELLS] in 0..1; None for empty text. Raises BadSettings.

    text  "left", "right", "top", "bottom", or "x y width height" as shares of the picture, as in "0.1 0.2 0.4 0.5"
    """
    words = text.lower().replace(",", " ").split()
    if not words:
        return None
    try:
        x, y, width, height = BOXES[words[0]] if len(words) == 1 and words[0] in BOXES else map(float, words)
    except ValueError:
        x = y = width = height = math.nan
    if not (x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= 1.0001 and y + height <= 1.0001):
        raise BadSettings(
            f'the box is "{text.strip()}"',
            f"{', '.join(BOXES)}, or x y width height as shares of the picture are expected",
            "write it as 0.1 0.2 0.4 0.5",
        )
    return covered(y, height)[:, None] * covered(x, width)[None]


def covered(start: float, length: float) -> Tensor:
    """How much of each of BOX_CELLS cells a stretch covers, [BOX_CELLS]; in shares of the whole."""
    cells = torch.arange(BOX_CELLS, dtype=torch.float32)
    ends = torch.minimum(cells + 1, torch.tensor((start + length) * BOX_CELLS))
    return (ends - torch.maximum(cells, torch.tensor(start * BOX_CELLS))).clamp(0, 1)


def region_on(region: Tensor, grid: tuple[int, int]) -> Tensor:
    """A mask of any size on a token grid, each token the mean of what it covers: [b-or-1 (h w)], in 0..1.

    region  [h w] or [b h w], in 0..1
    """
    planes = rearrange(region.float(), "... h w -> (...) 1 h w")
    return rearrange(interpolate(planes, size=grid, mode="area"), "b 1 h w -> b (h w)")


def share_rows(covers: Sequence[Tensor | None]) -> list[Tensor | float]:
    """What of each subject a row reads where several cover it: every cover divided by max(1, sum of covers).

    covers   per subject [b-or-1 n] in 0..1, or None for a subject that covers every row
    returns  per subject the same, or a number where it is one for all rows

    Subjects whose covers add up to 1 or less keep them as they are. Two that cover all share all in halves.
    """
    drawn = [cover for cover in covers if cover is not None]
    if not drawn:
        return [1.0 / len(covers) for _ in covers]
    total = sum(drawn, torch.full_like(drawn[0], len(covers) - len(drawn))).clamp(min=1.0)
    return [(1.0 if cover is None else cover) / total for cover in covers]
