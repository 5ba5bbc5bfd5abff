"""Patterns, parts, companions and styles: what is painted into and beside a silhouette."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from .shapes import INK, Piece, Point, draw, ellipse, mirrored, polygon
from .words import Colour

Floats = NDArray[np.float32]


def pattern_image(pattern: str, first: Colour, second: Colour, centre: Point, half: float, size: int) -> Image.Image:
    """A size x size picture of a pattern in two colours, laid out relative to the object it will fill."""
    axis = np.arange(size, dtype=np.float32)
    x, y = (axis[None, :] - centre[0]) / half, (axis[:, None] - centre[1]) / half
    if pattern == "plain":
        where = np.zeros((size, size), bool)
    elif pattern == "striped":
        where = (np.floor(x / 0.25).astype(int) % 2 == 0) & (y < 9)
    elif pattern == "dotted":
        where = ((x / 0.44) % 1 - 0.5) ** 2 + ((y / 0.44) % 1 - 0.5) ** 2 < 0.3**2
    elif pattern == "checkered":
        where = (np.floor(x / 0.36) + np.floor(y / 0.36)).astype(int) % 2 == 0
    else:  # split: the upper half in the first colour, the lower in the second
        where = (y > 0.08) & (x < 9)
    pixels = np.where(where[..., None], np.array(second, np.uint8), np.array(first, np.uint8))
    return Image.fromarray(pixels.astype(np.uint8))


GOLD, RIBBON, BAND = (250, 200, 40), (240, 90, 150), (214, 40, 40)
PART_PIECES: dict[str, tuple[tuple[Colour, tuple[Piece, ...]], ...]] = {  # painted in this order, about the seat
    "hat": (
        (
            INK,
            (
                polygon((-0.48, -0.12), (0.48, -0.12), (0.48, 0.04), (-0.48, 0.04)),
                polygon((-0.28, -0.6), (0.28, -0.6), (0.28, -0.1), (-0.28, -0.1)),
            ),
        ),
        (BAND, (polygon((-0.28, -0.26), (0.28, -0.26), (0.28, -0.12), (-0.28, -0.12)),)),
    ),
    "crown": (
        (
            GOLD,
            (
                polygon(
                    (-0.36, 0.04), (-0.42, -0.5), (-0.2, -0.22), (0, -0.58), (0.2, -0.22), (0.42, -0.5), (0.36, 0.04)
                ),
            ),
        ),
    ),
    "bow": (
        (
            RIBBON,
            (
                polygon((0, -0.12), (-0.46, -0.4), (-0.46, 0.16)),
                polygon((0, -0.12), (0.46, -0.4), (0.46, 0.16)),
                ellipse(0, -0.12, 0.12, 0.12),
            ),
        ),
    ),
}


def draw_part(part: str, canvas: ImageDraw.ImageDraw, seat: Point, half: float) -> None:
    """Paints a hat, crown or bow whose foot rests at seat; half is the object's half width in pixels."""
    for fill, pieces in PART_PIECES[part]:
        draw(pieces, canvas, seat, half, fill)


def draw_companion(name: str, canvas: ImageDraw.ImageDraw, centre: Point, half: float) -> None:
    """Paints the second object about centre; half its height is half pixels."""

    def put(fill: Colour, *pieces: Piece) -> None:
        draw(pieces, canvas, centre, half, fill)

    if name == "ball":
        put((230, 50, 50), ellipse(0, 0.3, 0.65, 0.65))
        put((250, 250, 250), ellipse(0, 0.3, 0.24, 0.65))
    elif name == "box":
        put((176, 120, 66), polygon((-0.7, -0.3), (0.7, -0.3), (0.7, 0.95), (-0.7, 0.95)))
        put((240, 215, 160), polygon((-0.12, -0.3), (0.12, -0.3), (0.12, 0.95), (-0.12, 0.95)))
    elif name == "cactus":
        put((30, 125, 60), ellipse(0, 0.1, 0.24, 0.9), ellipse(-0.5, 0, 0.15, 0.38), ellipse(0.5, -0.15, 0.15, 0.38))
        put((30, 125, 60), polygon((-0.5, 0.15), (0.5, 0.0), (0.5, 0.2), (-0.5, 0.38)))
    elif name == "lamp":
        put((90, 70, 60), polygon((-0.07, -0.1), (0.07, -0.1), (0.07, 0.95), (-0.07, 0.95)), ellipse(0, 0.9, 0.4, 0.12))
        put((255, 235, 120), mirrored((0.25, -0.95), (0.6, -0.05)))
    elif name == "flower":
        put((40, 140, 60), polygon((-0.06, 0), (0.06, 0), (0.06, 0.95), (-0.06, 0.95)), ellipse(0.25, 0.6, 0.25, 0.12))
        around = ((0, -0.75), (0.36, -0.5), (0.23, -0.08), (-0.23, -0.08), (-0.36, -0.5))
        put((245, 120, 190), *(ellipse(x, y, 0.24, 0.24) for x, y in around))
        put((250, 210, 60), ellipse(0, -0.38, 0.22, 0.22))
    else:  # balloon
        put((90, 90, 95), polygon((-0.03, 0.1), (0.03, 0.1), (0.1, 0.95), (0.04, 0.95)))
        put((60, 190, 200), ellipse(0, -0.4, 0.5, 0.58), mirrored((0.0, 0.1), (0.14, 0.3)))


SEPIA = (np.array([60, 38, 20], np.float32), np.array([250, 226, 185], np.float32))
BLUEPRINT = (np.array([16, 40, 120], np.float32), np.array([225, 238, 255], np.float32))


def styled(picture: Image.Image, style: str) -> Image.Image:
    """The picture as a photo (unchanged), sketch, blueprint or sepia print."""
    if style == "photo":
        return picture
    grey = np.asarray(picture.convert("L"), np.float32) / 255
    if style == "sepia":
        dark, light = SEPIA
        return Image.fromarray((dark + grey[..., None] * (light - dark)).astype(np.uint8))
    edges = np.asarray(
        picture.filter(ImageFilter.GaussianBlur(1)).convert("L").filter(ImageFilter.FIND_EDGES), np.float32
    )
    lines = np.clip((edges - 10) / 40, 0, 1)
    lines[:2], lines[-2:], lines[:, :2], lines[:, -2:] = 0, 0, 0, 0  # the filter copies the rim as it is
    if style == "sketch":
        shade = np.clip(0.62 + 0.38 * grey, 0, 1) * (1 - 0.85 * lines)
        return Image.fromarray((shade * 255).astype(np.uint8)).convert("RGB")
    dark, light = BLUEPRINT
    tone = np.clip(0.35 * grey + 0.65 * lines, 0, 1)
    return Image.fromarray((dark + tone[..., None] * (light - dark)).astype(np.uint8))
