"""The ten places, painted behind the objects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from .words import Colour

Rng = np.random.Generator


def gradient(top: Colour, bottom: Colour, size: int) -> Image.Image:
    """A vertical gradient, size x size."""
    ramp = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - ramp) + np.array(bottom, np.float32) * ramp
    return Image.fromarray(np.broadcast_to(column, (size, size, 3)).astype(np.uint8))


def ground(picture: Image.Image, colour: Colour, level: float) -> ImageDraw.ImageDraw:
    """Paints everything below level (0 top, 1 bottom) and returns the canvas."""
    canvas, size = ImageDraw.Draw(picture), picture.width
    canvas.rectangle((0, level * size, size, size), fill=colour)
    return canvas


def water(rng: Rng, size: int) -> Image.Image:
    picture = gradient((120, 205, 235), (20, 90, 170), size)
    canvas = ImageDraw.Draw(picture)
    x = np.linspace(0, size, 40)
    for row in range(4):
        y = size * (0.14 + 0.24 * row + rng.uniform(-0.02, 0.02))
        wave = y + size * 0.022 * np.sin(x / size * 22 + rng.uniform(0, 6))
        canvas.line(list(zip(x.tolist(), wave.tolist(), strict=True)), fill=(190, 235, 250), width=size // 50)
    return picture


def snow(rng: Rng, size: int) -> Image.Image:
    picture = gradient((186, 205, 222), (222, 232, 240), size)
    canvas = ground(picture, (252, 252, 254), rng.uniform(0.6, 0.68))
    for x, y in rng.uniform(0, size, (26, 2)):
        r = size * 0.014
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return picture


def night(rng: Rng, size: int) -> Image.Image:
    picture = gradient((8, 8, 30), (24, 24, 66), size)
    canvas = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0, size, (22, 2)):
        r = size * 0.008
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 220))
    x, y, r = size * rng.uniform(0.12, 0.2), size * rng.uniform(0.12, 0.18), size * 0.09
    canvas.ellipse((x - r, y - r, x + r, y + r), fill=(245, 240, 200))
    return picture


def desert(rng: Rng, size: int) -> Image.Image:
    picture = gradient((250, 175, 95), (255, 225, 160), size)
    canvas, level = ImageDraw.Draw(picture), size * rng.uniform(0.58, 0.64)
    x, r = size * rng.uniform(0.75, 0.88), size * 0.09
    canvas.ellipse((x - r, size * 0.1, x + r, size * 0.1 + 2 * r), fill=(255, 245, 200))
    canvas.ellipse((-0.5 * size, level, 0.75 * size, 1.8 * size), fill=(226, 180, 110))
    canvas.ellipse((0.3 * size, level + 0.06 * size, 1.6 * size, 1.9 * size), fill=(208, 158, 88))
    return picture


def forest(rng: Rng, size: int) -> Image.Image:
    picture = gradient((60, 110, 60), (30, 70, 35), size)
    canvas = ground(picture, (58, 84, 38), 0.82)
    for slot in range(5):
        x, w = size * (0.1 + 0.2 * slot + rng.uniform(-0.03, 0.03)), size * 0.035
        canvas.rectangle((x - w, 0, x + w, size * 0.86), fill=(84, 58, 38))
    for slot in range(6):
        x, r = size * (0.2 * slot + rng.uniform(-0.03, 0.03)), size * 0.13
        canvas.ellipse((x - r, -r, x + r, r * 0.9), fill=(28, 90, 42))
    return picture


def bricks(rng: Rng, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), (214, 200, 188))
    canvas, height, width = ImageDraw.Draw(picture), size / 8, size / 4
    shift = rng.uniform(0, width)
    for row in range(8):
        for column in range(-2, 6):
            x, y = column * width + (row % 2) * width / 2 + shift, row * height
            canvas.rectangle((x + 3, y + 3, x + width - 3, y + height - 3), fill=(166, 74, 56))
    return picture


def city(rng: Rng, size: int) -> Image.Image:
    picture = gradient((170, 190, 205), (215, 215, 210), size)
    canvas = ImageDraw.Draw(picture)
    for slot in range(5):
        x, top = size * 0.2 * slot, size * rng.uniform(0.12, 0.42)
        canvas.rectangle((x + 3, top, x + size * 0.19, size), fill=(112, 118, 132))
        for row in range(4):
            for column in range(2):
                left, upper = x + size * (0.035 + 0.08 * column), top + size * (0.04 + 0.11 * row)
                canvas.rectangle((left, upper, left + size * 0.05, upper + size * 0.055), fill=(250, 235, 150))
    ground(picture, (72, 72, 78), 0.84)
    return picture


def meadow(rng: Rng, size: int) -> Image.Image:
    picture = gradient((120, 190, 245), (195, 228, 250), size)
    canvas = ground(picture, (104, 190, 70), rng.uniform(0.52, 0.58))
    for x, y in zip(rng.uniform(0, size, 14), rng.uniform(0.62 * size, size, 14), strict=True):
        r = size * 0.013
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=(255, 245, 130))
    return picture


def kitchen(rng: Rng, size: int) -> Image.Image:
    picture = Image.new("RGB", (size, size), (250, 236, 205))
    canvas = ImageDraw.Draw(picture)
    tile = size / 8
    for row in range(3):
        for column in range(9):
            if (row + column) % 2:
                x, y = (column - 0.5) * tile, size * 0.66 + row * tile
                canvas.rectangle((x, y, x + tile, y + tile), fill=(90, 165, 160))
    x = size * rng.uniform(0.06, 0.12)
    canvas.rectangle(
        (x, size * 0.08, x + size * 0.3, size * 0.36), fill=(160, 215, 245), outline=(150, 100, 60), width=size // 42
    )
    return picture


def clouds(rng: Rng, size: int) -> Image.Image:
    picture = gradient((64, 140, 235), (150, 205, 250), size)
    canvas = ImageDraw.Draw(picture)
    for slot in range(7):
        x, y, r = size * (0.16 * slot + rng.uniform(-0.03, 0.03)), size * rng.uniform(0.86, 0.96), size * 0.15
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
    return picture


PAINTERS: dict[str, Callable[[Rng, int], Image.Image]] = {
    "water": water, "snow": snow, "night": night, "desert": desert, "forest": forest, "bricks": bricks,
    "city": city, "meadow": meadow, "kitchen": kitchen, "clouds": clouds,
}  # fmt: skip
