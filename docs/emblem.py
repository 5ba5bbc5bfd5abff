"""Draws the pack's icon and banner: python docs/emblem.py. Two branches meet, and the thing stands where they do."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

HERE = Path(__file__).parent
FINE = 4  # drawn this many times larger, then shrunk: PIL's shapes have hard edges
GROUND, CONCEPT, AUXILIARY, BOTH, INK = "#1e222a", "#e0a33e", "#56b6c2", "#f4efe4", "#1e222a"
ICON, BANNER = (400, 400), (1260, 540)  # px; the registry wants a square and 21:9


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Image.Image:
    """White disc on black, as a mask."""
    mask = Image.new("L", size, 0)
    (x, y), r = centre, radius
    ImageDraw.Draw(mask).ellipse((x - r, y - r, x + r, y + r), fill=255)
    return mask


def fish(draw: ImageDraw.ImageDraw, centre: tuple[float, float], length: float) -> None:
    """The thing: a fish that looks left."""
    (x, y), a, b = centre, 0.32 * length, 0.2 * length
    draw.ellipse((x - a - 0.1 * length, y - b, x + a - 0.1 * length, y + b), fill=INK)
    draw.polygon([(x + 0.12 * length, y), (x + 0.46 * length, y - b), (x + 0.46 * length, y + b)], fill=INK)
    eye = 0.035 * length
    ex, ey = x - 0.26 * length, y - 0.05 * length
    draw.ellipse((ex - eye, ey - eye, ex + eye, ey + eye), fill=BOTH)


def mark(picture: Image.Image, centre: tuple[float, float], radius: float) -> None:
    """The two branches as discs of that radius, side by side around the centre."""
    (x, y), apart = centre, 0.5 * radius
    left, right = (disc(picture.size, (x + side * apart, y), radius) for side in (-1, 1))
    picture.paste(CONCEPT, mask=left)
    picture.paste(AUXILIARY, mask=right)
    picture.paste(BOTH, mask=ImageChops.multiply(left, right))
    fish(ImageDraw.Draw(picture), centre, 0.82 * radius)


def icon() -> Image.Image:
    """The mark alone."""
    large = Image.new("RGB", (FINE * ICON[0], FINE * ICON[1]), GROUND)
    mark(large, (large.width / 2, large.height / 2), 0.31 * large.width)
    return large.resize(ICON, Image.Resampling.LANCZOS)


def banner() -> Image.Image:
    """The mark and what the pack does."""
    large = Image.new("RGB", (FINE * BANNER[0], FINE * BANNER[1]), GROUND)
    mark(large, (0.23 * large.width, large.height / 2), 0.27 * large.height)
    draw, left = ImageDraw.Draw(large), 0.44 * large.width
    lines = (("ICO + DCI", 84, BOTH, 0.36), ("one thing from a few pictures,", 38, CONCEPT, 0.55))
    for words, size, colour, down in (*lines, ("drawn faithfully in any scene", 38, AUXILIARY, 0.65)):
        font = ImageFont.load_default(FINE * size)
        draw.text((left, down * large.height), words, fill=colour, font=font, anchor="lm")
    return large.resize(BANNER, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    icon().save(HERE / "icon.png", optimize=True)
    banner().save(HERE / "banner.png", optimize=True)
