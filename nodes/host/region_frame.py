"""Whether a run can be a part of the picture that a region was drawn for; a run does not say where it belongs."""

from __future__ import annotations

from torch import Tensor

from .page import events

PARTS = ("detailer", "ultimatesdupscale", "tiledksampler")  # in the kinds of nodes that sample parts, each alone
MOST_CELLS = 2  # of the latent by which a picture may miss the region's shape: sizes are rounded to 8 or 16 px


def trouble_of_region(region: Tensor | None, size: tuple[int, int], otherwise: str) -> str | None:
    """A sentence where a region may lie over a part of the picture as if that were the whole; None where all is well.

    region     [h w] or [b h w], of any size; the shape of its sides is what must fit
    size       (height, width) of the run's latent
    otherwise  what to do instead
    """
    if region is None or float(region.min()) == float(region.max()):
        return None
    kind = events.kind_in_work()
    if any(word in kind.lower() for word in PARTS):
        return f"{kind} samples parts of a picture, and the whole region lies over each part; {otherwise}"
    height, width = size
    rows, columns = region.shape[-2:]
    if abs(width - height * columns / rows) <= MOST_CELLS or abs(height - width * rows / columns) <= MOST_CELLS:
        return None
    return (
        f"the region is {columns} x {rows} and the latent {width} x {height}, another shape, so it is stretched; draw "
        f"it in the picture's shape, or, if this is a part of a picture, {otherwise}"
    )
