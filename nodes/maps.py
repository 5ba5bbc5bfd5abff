"""Pictures of numbers: branch weights by layer and step, losses by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from ..dci_core.attention.joint import BlockId
from ..dci_core.attention.layers import LayerId, in_text
from ..dci_core.families.weight_names import in_order

LABEL_PX = 64
Row = TypeVar("Row")


def draw_maps(weights: Mapping[tuple[float, LayerId], Tensor], cell: int) -> Tensor:
    """A grid of maps as an IMAGE [b h w 3]: a row for each layer, a column for each noise level; black without any.

    weights  (sigma, layer) -> share of the concept branch [b h w]
    """
    layers = in_order({layer for _, layer in weights})
    return draw_grid({(layer, sigma): planes for (sigma, layer), planes in weights.items()}, layers, label, cell)


def draw_readings(strengths: Mapping[tuple[float, BlockId, int], Tensor], cell: int) -> Tensor:
    """A grid of maps as an IMAGE [b h w 3]: a row for each subject and block, a column for each noise level.

    strengths  (sigma, block, number of the subject from 0) -> how strongly it is read [b h w]; a subject's strongest
               reading in the whole run is white
    """
    tops = {number: 0.0 for _, _, number in strengths}
    for (_, _, number), planes in strengths.items():
        tops[number] = max(tops[number], float(planes.max()))
    shown = {
        ((number, block), sigma): planes / (tops[number] or 1.0) for (sigma, block, number), planes in strengths.items()
    }
    rows = sorted({row for row, _ in shown})
    return draw_grid(shown, rows, lambda row: f"{row[0] + 1}: {row[1].stream[0]}{row[1].index}", cell)


def draw_grid(
    planes: Mapping[tuple[Row, float], Tensor], rows: Sequence[Row], name: Callable[[Row], str], cell: int
) -> Tensor:
    """Maps [b h w] in 0..1 by (row, noise level) as an IMAGE [b h w 3] with the rows' names; black without any."""
    sigmas = sorted({sigma for _, sigma in planes}, reverse=True)
    if not rows:
        return torch.zeros(1, cell, LABEL_PX + cell, 3)
    pictures = next(iter(planes.values())).shape[0]
    grid = torch.zeros(pictures, len(rows) * cell, len(sigmas) * cell)
    for y, row in enumerate(rows):
        for x, sigma in enumerate(sigmas):
            if (row, sigma) in planes:
                small = planes[row, sigma][:, None].float()
                tile = interpolate(small, size=(cell, cell), mode="nearest")[:, 0]
                grid[:, y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] = tile
    names = draw_labels([name(row) for row in rows], cell)
    both = torch.cat([names.expand(pictures, -1, -1), grid], dim=2)
    return both[..., None].repeat(1, 1, 1, 3)


def label(layer: LayerId) -> str:
    """`in4.1`: a layer in the words of a layer text."""
    return in_text(layer, is_alone=not layer.index)


def draw_labels(names: Sequence[str], cell: int) -> Tensor:
    """Names under each other, [1 h w]."""
    picture = Image.new("L", (LABEL_PX, len(names) * cell))
    for row, name in enumerate(names):
        ImageDraw.Draw(picture).text((4, row * cell + cell // 2 - 5), name, fill=255)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]


def draw_losses(losses: Sequence[float], width: int = 512, height: int = 256) -> Tensor:
    """A curve of losses and its running mean as an IMAGE [1 h w 3]."""
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    if losses:
        top = max(losses) or 1.0
        means = [sum(losses[max(0, i - 24) : i + 1]) / len(losses[max(0, i - 24) : i + 1]) for i in range(len(losses))]
        for values, colour in ((losses, "lightgray"), (means, "steelblue")):
            places = [
                (8 + i * (width - 16) / max(len(values) - 1, 1), height - 8 - v / top * (height - 32))
                for i, v in enumerate(values)
            ]
            pen.line(places if len(places) > 1 else places * 2, fill=colour, width=2)
        pen.text((8, 4), f"loss {losses[0]:.4f} -> {means[-1]:.4f} in {len(losses)} steps", fill="black")
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]
