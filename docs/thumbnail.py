"""Puts a workflow's own pictures on its thumbnail: references above, plain and DCI side by side, who drew them below.

python docs/thumbnail.py "workflows/10 ....jpg" --references a.png ... --plain b.png ... --dci c.png ... --by "..."
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, WORDS = 400, 4, 18  # px of the whole, between pictures, and for a line of words
GROUND, INK = "#1e222a", "#f4efe4"


def thumbnail(
    references: Sequence[Path], plain: Sequence[Path], dci: Sequence[Path], by: str, names: Sequence[str]
) -> Image.Image:
    """The sheet; plain and dci show two pictures each, one above the other, below their two names."""
    sheet = Image.new("RGB", (SIDE, SIDE), GROUND)
    draw = ImageDraw.Draw(sheet)
    small = (SIDE - GAP * (len(references) - 1)) // len(references)
    for i, path in enumerate(references):
        paste(sheet, path, i * (small + GAP), 0, small)
    top = small + GAP
    large = (SIDE - top - 2 * WORDS - GAP) // 2
    for name, paths, centre in zip(names, (plain, dci), (SIDE // 4, 3 * SIDE // 4), strict=True):
        write(draw, (centre, top + WORDS // 2), name)
        for row, path in enumerate(paths[:2]):
            paste(sheet, path, centre - large // 2, top + WORDS + row * (large + GAP), large)
    write(draw, (SIDE // 2, SIDE - WORDS // 2), by)
    return sheet


def paste(sheet: Image.Image, path: Path, x: int, y: int, side: int) -> None:
    """One picture at that many pixels a side."""
    with Image.open(path) as picture:
        sheet.paste(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), (x, y))


def write(draw: ImageDraw.ImageDraw, centre: tuple[int, int], words: str) -> None:
    """One line of words."""
    draw.text(centre, words, fill=INK, font=ImageFont.load_default(12), anchor="mm")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name in ("--references", "--plain", "--dci"):
        parser.add_argument(name, type=Path, nargs="+", required=True)
    parser.add_argument("--by", required=True, help="what drew them, for people")
    parser.add_argument("--names", nargs=2, default=("without DCI", "with DCI"), help="what stands above the two")
    options = parser.parse_args()
    thumbnail(options.references, options.plain, options.dci, options.by, options.names).save(options.out, quality=90)
