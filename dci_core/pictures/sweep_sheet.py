"""The sheet of a sweep: a row for each strength, a column for each window, the plain run first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from ..dci.sweep import PLAIN, Sweep
from .paper import FAINT, LINE, PAPER, Pen

SMALLEST, LARGEST = 13, 40  # letters, px; they grow with the cells


@dataclass(frozen=True)
class Layout:
    """Where things are, px.

    width, height  of a cell; gap between cells, margin around everything
    letters        size of the labels
    plain, edges   left edges of the plain column and of each window's
    """

    width: int
    height: int
    gap: int
    margin: int
    letters: int
    plain: int
    edges: tuple[int, ...]

    @property
    def right(self) -> int:
        """Where the last cell ends."""
        return self.edges[-1] + self.width


def lay_out(shape: tuple[int, int], sweep: Sweep, side: int) -> Layout:
    """The layout of cells of pictures [h w], their longer side `side` px; the plain column stands a little apart."""
    height, width = (max(1, round(size * side / max(shape))) for size in shape)
    letters, gap = max(SMALLEST, min(LARGEST, side // 14)), max(4, side // 40)
    margin = letters + gap
    plain = margin + round(max(blank_pen().width(name, letters) for name in row_names(sweep))) + 2 * gap
    first = plain + width + 4 * gap
    return Layout(
        width, height, gap, margin, letters, plain, tuple(first + i * (width + gap) for i in range(len(sweep.windows)))
    )


def draw_sweep(sweep: Sweep, plain: Tensor, cells: Sequence[Tensor], title: str, about: str, side: int) -> Image.Image:
    """The sheet.

    plain  [3 h w] in 0..1, without DCI; stands at the head of every row, to compare with
    cells  the same for each of `sweep.cells()`
    title  the prompt; about: what all cells have in common
    side   longer side of a cell, px
    """
    place = lay_out((plain.shape[-2], plain.shape[-1]), sweep, side)
    names = round(draw_head(blank_pen(), place, title, about) + place.letters)
    top = round(names + 1.6 * place.letters)
    bottom = top + len(sweep.strengths) * (place.height + place.gap) - place.gap
    sheet = Image.new("RGB", (place.right + place.margin, bottom + place.margin), PAPER)
    pen = Pen(ImageDraw.Draw(sheet))
    draw_head(pen, place, title, about)
    draw_names(pen, place, sweep, names)
    for row, name in enumerate(row_names(sweep)):
        y = top + row * (place.height + place.gap)
        label = place.plain - 2 * place.gap, y + place.height / 2
        pen.write(label, name, place.letters, anchor="rm")
        own = cells[row * len(sweep.windows) : (row + 1) * len(sweep.windows)]
        for x, picture in zip((place.plain, *place.edges), (plain, *own), strict=True):
            sheet.paste(sized(picture, place.width, place.height), (x, y))
    between = place.plain + place.width + 2 * place.gap
    pen.canvas.line((between, names, between, bottom), fill=LINE, width=max(1, place.gap // 4))
    return sheet


def draw_head(pen: Pen, place: Layout, title: str, about: str) -> float:
    """Prompt and settings across the sheet; the y below them."""
    width = place.right - place.margin
    below = pen.wrap((place.margin, place.margin), title, width, round(place.letters * 1.4))
    return pen.wrap((place.margin, below + place.gap / 2), about, width, place.letters, FAINT)


def draw_names(pen: Pen, place: Layout, sweep: Sweep, y: float) -> None:
    """What each column is, above its middle."""
    names = (PLAIN, *(f"window {window:g}" for window in sweep.windows))
    for x, name in zip((place.plain, *place.edges), names, strict=True):
        pen.write((x + place.width / 2, y), name, place.letters, anchor="ma")


def row_names(sweep: Sweep) -> list[str]:
    """What stands before each row."""
    return [f"strength {strength:g}" for strength in sweep.strengths]


def blank_pen() -> Pen:
    """A pen that leaves nothing behind, to measure words with."""
    return Pen(ImageDraw.Draw(Image.new("RGB", (1, 1))))


def sized(picture: Tensor, width: int, height: int) -> Image.Image:
    """A picture [3 h w] in 0..1 at that size."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
