"""Silhouettes of the nouns, as data in a square from -1 to 1 (x right, y down)."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

from PIL import Image, ImageDraw

from .words import Colour

Point = tuple[float, float]
Piece = tuple[str, Sequence[Point]]  # ("ellipse", two corners) or ("polygon", corners)
INK = (25, 25, 30)


def ellipse(x: float, y: float, rx: float, ry: float) -> Piece:
    """An ellipse about (x, y)."""
    return "ellipse", ((x - rx, y - ry), (x + rx, y + ry))


def polygon(*corners: Point) -> Piece:
    """A filled polygon."""
    return "polygon", corners


def mirrored(*corners: Point) -> Piece:
    """A polygon closed by its own mirror image across x = 0; corners run down the right side."""
    return "polygon", (*corners, *((-x, y) for x, y in reversed(corners)))


def _star() -> Piece:
    radius = (0.95, 0.42)
    return "polygon", tuple((radius[i % 2] * sin(pi * i / 5), -radius[i % 2] * cos(pi * i / 5)) for i in range(10))


def _heart() -> Piece:
    turns = [2 * pi * i / 40 for i in range(40)]
    return "polygon", tuple(
        (0.058 * 16 * sin(t) ** 3, -0.06 * (13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)))
        for t in turns
    )  # fmt: skip


BODIES: dict[str, tuple[Piece, ...]] = {  # filled with the object's own pattern
    "fish": (
        ellipse(-0.15, 0, 0.75, 0.5), polygon((0.4, 0), (0.98, -0.5), (0.98, 0.5)),
        polygon((-0.3, -0.4), (0.2, -0.75), (0.25, -0.35)),
    ),
    "bird": (
        ellipse(0, 0.1, 0.62, 0.42), ellipse(-0.55, -0.3, 0.3, 0.28), polygon((0.45, 0.1), (1.0, -0.25), (0.95, 0.3)),
        polygon((-0.15, 0), (0.35, -0.75), (0.4, 0.05)),
    ),
    "turtle": (
        ellipse(0, 0.1, 0.68, 0.5), ellipse(-0.8, -0.05, 0.22, 0.2), ellipse(-0.42, 0.6, 0.17, 0.2),
        ellipse(0.42, 0.6, 0.17, 0.2),
    ),
    "butterfly": (
        ellipse(-0.48, -0.32, 0.46, 0.42), ellipse(0.48, -0.32, 0.46, 0.42), ellipse(-0.38, 0.42, 0.36, 0.36),
        ellipse(0.38, 0.42, 0.36, 0.36),
    ),
    "car": (
        polygon((-0.95, 0.05), (0.95, 0.05), (0.98, 0.5), (-0.98, 0.5)),
        polygon((-0.6, 0.1), (-0.4, -0.45), (0.4, -0.45), (0.65, 0.1)),
    ),
    "boat": (
        polygon((-0.95, 0.3), (0.95, 0.3), (0.6, 0.8), (-0.6, 0.8)), polygon((0.06, -0.9), (0.75, 0.2), (0.06, 0.2)),
        polygon((-0.06, -0.7), (-0.06, 0.2), (-0.6, 0.2)),
    ),
    "rocket": (mirrored((0.0, -1.0), (0.32, -0.5), (0.34, 0.5)), mirrored((0.3, 0.1), (0.72, 0.75), (0.3, 0.6))),
    "teapot": (
        ellipse(0, 0.2, 0.62, 0.52), polygon((-0.5, 0.35), (-1.0, -0.25), (-0.8, -0.3), (-0.4, 0.0)),
        mirrored((0.0, -0.55), (0.16, -0.5), (0.3, -0.22)),
    ),
    "mushroom": (polygon(*((0.9 * cos(pi * i / 24), 0.05 - 0.85 * sin(pi * i / 24)) for i in range(25))),),
    "cat": (
        ellipse(0, 0.15, 0.75, 0.65), polygon((-0.72, 0.1), (-0.68, -0.8), (-0.15, -0.4)),
        polygon((0.72, 0.1), (0.68, -0.8), (0.15, -0.4)),
    ),
    "star": (_star(),),
    "heart": (_heart(),),
}  # fmt: skip

WHITE = (250, 250, 250)
WOOD = (225, 205, 170)
FLAME = (250, 150, 30)
GLASS = (190, 225, 240)

DETAILS: dict[str, tuple[tuple[Piece, tuple[int, int, int]], ...]] = {  # same on every object of the noun
    "fish": ((ellipse(-0.55, -0.1, 0.13, 0.13), WHITE), (ellipse(-0.57, -0.1, 0.07, 0.07), INK)),
    "bird": ((polygon((-0.8, -0.38), (-1.05, -0.22), (-0.78, -0.15)), FLAME), (ellipse(-0.6, -0.35, 0.07, 0.07), INK)),
    "turtle": ((ellipse(-0.88, -0.1, 0.06, 0.06), INK),),
    "butterfly": ((ellipse(0, 0.02, 0.1, 0.62), INK),),
    "car": (
        (polygon((-0.42, 0.02), (-0.28, -0.32), (0.28, -0.32), (0.45, 0.02)), GLASS),
        (ellipse(-0.52, 0.5, 0.24, 0.24), INK),
        (ellipse(0.52, 0.5, 0.24, 0.24), INK),
        (ellipse(-0.52, 0.5, 0.1, 0.1), WHITE),
        (ellipse(0.52, 0.5, 0.1, 0.1), WHITE),
    ),
    "boat": ((polygon((-0.05, -0.95), (0.05, -0.95), (0.05, 0.3), (-0.05, 0.3)), (110, 70, 40)),),
    "rocket": (
        (mirrored((0.22, 0.52), (0.1, 0.75), (0.0, 1.0)), FLAME),
        (ellipse(0, -0.3, 0.16, 0.16), GLASS),
    ),
    "teapot": (),
    "mushroom": (
        (polygon((-0.26, 0.05), (0.26, 0.05), (0.32, 0.9), (-0.32, 0.9)), WOOD),
        (polygon((-0.9, 0.03), (0.9, 0.03), (0.5, 0.16), (-0.5, 0.16)), (180, 150, 120)),
    ),
    "cat": (
        (ellipse(-0.28, 0.05, 0.12, 0.14), WHITE),
        (ellipse(0.28, 0.05, 0.12, 0.14), WHITE),
        (ellipse(-0.28, 0.07, 0.06, 0.1), INK),
        (ellipse(0.28, 0.07, 0.06, 0.1), INK),
        (polygon((-0.1, 0.28), (0.1, 0.28), (0, 0.42)), (240, 130, 150)),
    ),
    "star": (),
    "heart": (),
}  # fmt: skip

HANDLES: dict[str, tuple[Piece, ...]] = {"teapot": (ellipse(0.7, 0.15, 0.3, 0.3),)}  # drawn as a ring behind
HOLES: dict[str, tuple[Piece, ...]] = {"teapot": (ellipse(0.72, 0.15, 0.17, 0.17),)}
CROWNS: dict[str, Point] = {  # where a hat, crown or bow sits
    "fish": (-0.3, -0.45), "bird": (-0.55, -0.55), "turtle": (0, -0.38), "butterfly": (0, -0.55), "car": (0, -0.42),
    "boat": (0.0, -0.8), "rocket": (0, -0.85), "teapot": (0, -0.5), "mushroom": (0, -0.75), "cat": (0, -0.45),
    "star": (0, -0.8), "heart": (0, -0.35),
}  # fmt: skip


def draw(pieces: Sequence[Piece], canvas: ImageDraw.ImageDraw, centre: Point, half: float, fill: Colour | int) -> None:
    """Paints pieces on the canvas; centre and half (half the shape's width) in pixels."""
    for kind, corners in pieces:
        placed = [(centre[0] + half * x, centre[1] + half * y) for x, y in corners]
        getattr(canvas, kind)(placed, fill=fill)


def body_mask(noun: str, centre: Point, half: float, size: int) -> Image.Image:
    """The patterned part of a noun, 255 inside; an "L" image size x size pixels."""
    mask = Image.new("L", (size, size))
    canvas = ImageDraw.Draw(mask)
    draw(HANDLES.get(noun, ()), canvas, centre, half, 255)
    draw(HOLES.get(noun, ()), canvas, centre, half, 0)
    draw(BODIES[noun], canvas, centre, half, 255)
    return mask
