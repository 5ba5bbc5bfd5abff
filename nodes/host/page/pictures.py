"""Pictures that a node's panel draws from the host's temporary folder, which the host itself serves and empties."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ....dci_core.attention.layers import LayerId, in_text
from ....dci_core.families.weight_names import in_order
from ....dci_core.pictures.saving import save_image
from ....dci_core.pictures.thumbnails import image_of
from ..folders import prepared

MOST_CELL = 64  # px of one map's longer side in the sheet
MOST_PICTURES = 4  # of a batch
MOST_PX = 512
ALL = "all layers"


def maps_for_page(
    weights: Mapping[tuple[float, LayerId], Tensor], latent: Tensor, picture: Tensor | None
) -> dict[str, Any]:
    """What the page lays over the picture: a sheet of maps for each picture, its rows and columns named.

    weights  (sigma, layer) -> share of the concept branch [b h w]
    latent   [b c h w], painted roughly where no picture came
    picture  [b h w 3] or None
    returns  rows, sigmas, cell [w h], sheets and pictures as the host's `/view` names them; no rows where DCI was off
    """
    layers = in_order({layer for _, layer in weights})
    sigmas = sorted({sigma for sigma, _ in weights}, reverse=True)
    if not layers or latent.ndim != 4:
        return {"rows": [], "sigmas": [], "sheets": [], "pictures": []}
    largest = max((planes.shape[-2:] for planes in weights.values()), key=lambda size: size[0] * size[1])
    scale = min(1.0, MOST_CELL / max(largest))
    cell = tuple(max(1, round(side * scale)) for side in largest)
    count = min(MOST_PICTURES, next(iter(weights.values())).shape[0])
    sheet = torch.full((count, (len(layers) + 1) * cell[0], len(sigmas) * cell[1]), 0.5)
    for column, sigma in enumerate(sigmas):
        tiles = [tile_of(weights[sigma, layer][:count], cell) for layer in layers if (sigma, layer) in weights]
        place(sheet, 0, column, torch.stack(tiles).mean(dim=0))
        for row, layer in enumerate(layers, 1):
            if (sigma, layer) in weights:
                place(sheet, row, column, tile_of(weights[sigma, layer][:count], cell))
    shown = painted(latent[:count]) if picture is None else picture[:count]
    return {
        "rows": [ALL, *(in_text(layer, is_alone=not layer.index) for layer in layers)],
        "sigmas": sigmas,
        "cell": [cell[1], cell[0]],
        "sheets": [kept(page) for page in sheet],
        "pictures": [kept(page) for page in shown],
    }


def tile_of(planes: Tensor, cell: tuple[int, ...]) -> Tensor:
    """Maps [b h w] at the size of a cell."""
    return interpolate(planes[:, None].float().cpu(), size=cell, mode="nearest")[:, 0]


def place(sheet: Tensor, row: int, column: int, tile: Tensor) -> None:
    """Puts [b h w] into a sheet's cell."""
    height, width = tile.shape[-2:]
    sheet[:, row * height : (row + 1) * height, column * width : (column + 1) * width] = tile


def painted(latent: Tensor) -> Tensor:
    """A rough picture [b h w 3] of a latent whose colours nobody has told: its first three channels, stretched."""
    rough = latent[:, :3].float().cpu()
    low, high = rough.amin(dim=(2, 3), keepdim=True), rough.amax(dim=(2, 3), keepdim=True)
    return ((rough - low) / (high - low).clamp_min(1e-6)).permute(0, 2, 3, 1)


def kept(pixels: Tensor) -> dict[str, str]:
    """A picture [h w] or [h w 3] in 0..1 as a file in the host's temporary folder, named as its page asks for it.

    Raises NotSaved.
    """
    import folder_paths

    name = f"ico_dci_{secrets.token_hex(8)}.png"
    picture = image_of(pixels)
    picture.thumbnail((10**5, 10**5) if pixels.ndim == 2 else (MOST_PX, MOST_PX))
    save_image(picture, prepared(Path(folder_paths.get_temp_directory()) / name))
    return {"filename": name, "subfolder": "", "type": "temp"}
