"""The demo's sheet: what was shown, what came of it plainly and with DCI, and how DCI decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..pictures.paper import FAINT, GAP, LINE, PAPER, Pen, ramp, to_image, to_map
from ..text.tokens import PLACEHOLDER

SIDE, MARGIN, TEXT, SPACE = 136, 28, 190, 26  # pixels: a picture, the edge, the prompt's column, between columns
NOTE = 38  # below each picture, two lines
SHOWN = 2  # seeds on the sheet, the first ones; the table counts all
RIGHT, WRONG = (20, 120, 60), (185, 35, 35)
NAMES = {"plain": "Plain sampling", "dci": "With DCI"}

Measured = tuple[float, float, float]  # mean, low and high end of the 95% interval
Note = tuple[float, dict[str, bool]]  # likeness, what was asked -> whether it is there


@dataclass(frozen=True)
class Row:
    """One prompt.

    pictures   per way [b 3 h w]; notes the judge's word on each
    auxiliary  [3 h w], the auxiliary branch's picture at the first seed
    maps       per side of the grid the concept's weights there, [h w]
    """

    template: str
    is_low_prior: bool
    pictures: Mapping[str, Tensor]
    notes: Mapping[str, Sequence[Note]]
    auxiliary: Tensor
    maps: Mapping[int, Tensor]


@dataclass(frozen=True)
class Summary:
    """One measured thing, both ways."""

    name: str
    plain: Measured
    dci: Measured


@dataclass(frozen=True)
class Sheet:
    """A sheet being drawn; columns are given by their left edges."""

    image: Image.Image
    pen: Pen
    plain: int
    dci: int
    auxiliary: int
    maps: int

    def put(self, picture: Image.Image, x: int, y: int) -> None:
        """A picture with a thin frame."""
        self.image.paste(picture, (x, y))
        self.pen.canvas.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=LINE)


def draw_sheet(
    references: Sequence[Tensor], rows: Sequence[Row], numbers: Sequence[Summary], noun: str, count: int
) -> Image.Image:
    """The whole sheet; `count` pictures each way are behind the numbers."""
    step, num_maps = SIDE + GAP, len(rows[0].maps)
    plain = MARGIN + TEXT + SPACE
    dci = plain + SHOWN * step + SPACE
    auxiliary = dci + SHOWN * step + SPACE
    maps = auxiliary + step + SPACE
    top = 118 + SIDE + 70
    size = (maps + num_maps * step - GAP + MARGIN, top + len(rows) * (SIDE + NOTE + 14) + 84)
    image = Image.new("RGB", size, PAPER)
    sheet = Sheet(image, Pen(ImageDraw.Draw(image)), plain, dci, auxiliary, maps)
    draw_head(sheet, references, numbers, noun, count)
    draw_names(sheet, top, rows[0], noun)
    for i, row in enumerate(rows):
        draw_row(sheet, row, top + i * (SIDE + NOTE + 14), noun)
    draw_foot(sheet, top + len(rows) * (SIDE + NOTE + 14) + 12)
    return image


def draw_head(sheet: Sheet, references: Sequence[Tensor], numbers: Sequence[Summary], noun: str, count: int) -> None:
    """Title, reference pictures, numbers."""
    pen = sheet.pen
    pen.write((MARGIN, 22), "One concept, learned from five pictures, drawn in eight scenes", 25)
    about = (
        "Same fine-tuned model, same noise. With DCI a second branch, asked for a cat, takes part early in sampling."
    )
    pen.write((MARGIN, 57), about, 15, FAINT)
    pen.wrap((MARGIN, 118), f"Reference pictures: this one {noun} is the concept", TEXT, 16)
    for i, picture in enumerate(references):
        sheet.put(to_image(picture, SIDE), sheet.plain + i * (SIDE + GAP), 108)
    x, y = sheet.auxiliary + SIDE + GAP, 104
    pen.write((x + 140, y), "plain", 15, FAINT)
    pen.write((x + 295, y), "with DCI", 15, FAINT)
    for i, found in enumerate(numbers):
        line = y + 30 + i * 34
        pen.write((x, line), found.name, 16)
        for left, (mean, low, high) in ((140, found.plain), (295, found.dci)):
            pen.write((x + left, line), f"{mean:.2f}", 19)
            pen.write((x + left + 46, line + 4), f"{low:.2f} to {high:.2f}", 13, FAINT)
    pen.write((x, y + 104), f"means of {count} pictures each, all prompts and seeds, with 95% intervals", 13, FAINT)


def draw_names(sheet: Sheet, top: int, row: Row, noun: str) -> None:
    """What each column is."""
    pen, y = sheet.pen, top - 44
    pen.canvas.line((MARGIN, y - 14, sheet.image.width - MARGIN, y - 14), fill=LINE)
    pen.write((MARGIN, y), "Prompt", 17)
    for way, x in (("plain", sheet.plain), ("dci", sheet.dci)):
        pen.write((x, y), NAMES[way], 17)
        pen.write((x, y + 22), "two seeds, not chosen", 12, FAINT)
    pen.write((sheet.auxiliary, y), "Second branch", 17)
    pen.write((sheet.auxiliary, y + 22), f'"cat" for the {noun}', 12, FAINT)
    pen.write((sheet.maps, y), "Who decides where (left picture)", 17)
    for i, side in enumerate(row.maps):
        pen.write((sheet.maps + i * (SIDE + GAP), y + 22), f"layers of {side} x {side}", 12, FAINT)


def draw_row(sheet: Sheet, row: Row, y: int, noun: str) -> None:
    """One prompt's pictures and maps."""
    step = SIDE + GAP
    below = sheet.pen.wrap((MARGIN, y + 6), row.template.replace(PLACEHOLDER, f"[concept] {noun}"), TEXT, 17)
    words = "the model never saw" if row.is_low_prior else "the model has seen"
    sheet.pen.wrap((MARGIN, below + 6), f"{words} a {noun} so", TEXT, 13, FAINT)
    for way, left in (("plain", sheet.plain), ("dci", sheet.dci)):
        for i in range(SHOWN):
            sheet.put(to_image(row.pictures[way][i], SIDE), left + i * step, y)
            draw_note(sheet.pen, row.notes[way][i], left + i * step, y + SIDE + 4)
    sheet.put(to_image(row.auxiliary, SIDE), sheet.auxiliary, y)
    for i, weights in enumerate(row.maps.values()):
        sheet.put(to_map(weights, SIDE), sheet.maps + i * step, y)


def draw_note(pen: Pen, note: Note, x: float, y: float) -> None:
    """The judge's word below a picture."""
    likeness, asked = note
    pen.write((x, y), f"likeness {likeness:.2f}", 12)
    for word, is_there in asked.items():
        colour = RIGHT if is_there else WRONG
        pen.write((x, y + 16), word, 12, colour)
        x += pen.width(word, 12) + 4
        pen.mark((x, y + 18), is_there, colour)
        x += 20


def draw_foot(sheet: Sheet, y: int) -> None:
    """How to read it."""
    pen, width = sheet.pen, 2 * SIDE
    pen.canvas.line((MARGIN, y, sheet.image.width - MARGIN, y), fill=LINE)
    bar = ramp(torch.linspace(0, 1, 256).expand(1, -1).double().numpy()).resize((width, 14), Image.Resampling.BICUBIC)
    sheet.put(bar, sheet.maps, y + 18)
    pen.write((sheet.maps, y + 38), "the second branch", 13, FAINT)
    pen.write((sheet.maps + width, y + 38), "the concept", 13, FAINT, "ra")
    words = (
        "Below each picture stands what a separate small network, the judge, finds in it. Likeness: 0 is another "
        "object of the same kind, 1 the concept itself. Then whether the asked place and second object are there."
    )
    pen.wrap((MARGIN, y + 14), words, sheet.auxiliary - MARGIN - SPACE, 13, FAINT)
