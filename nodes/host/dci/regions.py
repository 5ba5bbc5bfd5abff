"""A region in the frame of the whole picture, for model calls that show a part of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....dci_core.attention.regions import region_on
from ....dci_core.errors import BadSettings

Area = tuple[int, ...] | None


def region_for(
    region: Tensor | None, areas: Sequence[Area], size: tuple[int, int], shown: tuple[int, ...]
) -> Tensor | None:
    """The region of each row that a model call shows: [h w] or [rows h w], in the frame of what the row shows.

    region  of the whole pictures, [h w] or [b h w]
    areas   of each row `(chunk b)`, (height, width, y, x) in latent pixels; None: the whole picture
    size    (height, width) of the whole latents; shown  of the call's

    Raises BadSettings where the number of masks does not fit, or where another node shows parts at places unknown.
    """
    if region is None or not areas:
        return None
    masks = region.shape[0] if region.ndim > 2 else 1
    if len(areas) % masks:
        raise BadSettings(
            f"the region has {masks} masks", f"1, or one for each of {len(areas)}, is expected", "give one mask"
        )
    if not any(areas) and tuple(shown) != tuple(size) and float(region.min()) != float(region.max()):
        raise BadSettings(
            f"another node works on parts of {shown[-1]} x {shown[-2]} of a latent of {size[1]} x {size[0]}",
            "whole pictures are expected under a region, which would land in the wrong place",
            "leave the region of DBIM Layer Mask out, or take the tiles or windows off",
        )
    if not any(areas):
        return region if masks == 1 else region.repeat(len(areas) // masks, 1, 1)
    planes = region_on(region, size).reshape(masks, *size)
    return torch.stack([cropped(planes[row % masks], area, shown) for row, area in enumerate(areas)])


def cropped(plane: Tensor, area: Area, shown: tuple[int, ...]) -> Tensor:
    """A plane's part in an area, no larger than what the call shows."""
    if area is None:
        return plane
    top, left = area[len(area) // 2 :][-2:]
    return plane[top : top + shown[-2], left : left + shown[-1]]
