"""Where a subject is read: masks of any size on the token grid, and the rule for rows that several subjects cover.

Source: dynaip.md section 5 (candidate 1), reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate


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
