"""Pictures side by side on one sheet, with words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 6
INK, FAINT, LINE, PAPER = (28, 30, 34), (110, 114, 122), (222, 224, 228), (255, 255, 255)
AUXILIARY_HUE, NEUTRAL, CONCEPT_HUE = (38, 94, 190), (246, 246, 244), (226, 110, 20)  # weights 0, 1/2, 1

Colour = tuple[int, int, int]


def to_image(picture: Tensor, side: int) -> Image.Image:
    """A picture [3 h w] in 0..1 at that many pixels a side."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def ramp(weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Image.Image:
    """Weights [h w] in 0..1 in colours: 0 the auxiliary branch's blue, 1 the concept's orange, a half white."""
    stops = np.array((AUXILIARY_HUE, NEUTRAL, CONCEPT_HUE), dtype=float)
    planes = [np.interp(weights, (0.0, 0.5, 1.0), stops[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(planes, axis=-1).round().astype(np.uint8))


def to_map(weights: Tensor, side: int) -> Image.Image:
    """A weight map [h w] at that many pixels a side, each cell a square."""
    return ramp(weights.double().numpy()).resize((side, side), Image.Resampling.NEAREST)


def grid(rows: Sequence[Tensor], side: int = 256) -> Image.Image:
    """Rows of pictures, each [b 3 h w] in 0..1, on one sheet."""
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (side + GAP) + GAP, len(rows) * (side + GAP) + GAP), PAPER)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(to_image(picture, side), (GAP + x * (side + GAP), GAP + y * (side + GAP)))
    return sheet


@dataclass(frozen=True)
class Pen:
    """Writes on a sheet."""

    canvas: ImageDraw.ImageDraw

    def write(
        self, at: tuple[float, float], words: str, size: int = 15, colour: Colour = INK, anchor: str = "la"
    ) -> None:
        """One line of words; the anchor as Pillow names it."""
        self.canvas.text(at, words, fill=colour, font=ImageFont.load_default(size), anchor=anchor)

    def width(self, words: str, size: int) -> float:
        """Pixels that one line of words takes."""
        return float(ImageFont.load_default(size).getlength(words))

    def mark(self, at: tuple[float, float], is_right: bool, colour: Colour) -> None:
        """A tick or a cross, 9 pixels a side."""
        x, y = at
        strokes = [((0, 5), (3, 9), (9, 0))] if is_right else [((0, 0), (8, 8)), ((0, 8), (8, 0))]
        for stroke in strokes:
            self.canvas.line([(x + dx, y + dy) for dx, dy in stroke], fill=colour, width=2)

    def wrap(self, at: tuple[float, float], words: str, width: float, size: int = 15, colour: Colour = INK) -> float:
        """Words in lines no longer than the width; the y below the last line."""
        font, (x, y), line = ImageFont.load_default(size), at, ""
        for word in [*words.split(), ""]:
            longer = f"{line} {word}".strip()
            if word and font.getlength(longer) <= width:
                line = longer
                continue
            self.canvas.text((x, y), line, fill=colour, font=font)
            y, line = y + size * 1.35, word
        return y
