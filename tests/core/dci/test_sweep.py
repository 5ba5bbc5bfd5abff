"""A sweep's lists, and its sheet: every picture in its place, every label there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dci_core.dci.sweep import read_numbers, read_sweep
from dci_core.errors import BadSettings
from dci_core.pictures.sweep_sheet import draw_sweep, lay_out

SWEEP = read_sweep("0.1, .3,0.50", "1, -2")


def flat(value: float, height: int = 20, width: int = 30) -> torch.Tensor:
    return torch.full((3, height, width), value)


def sheet(title: str = "a dog in the snow") -> Image.Image:
    cells = [flat(i / 10) for i in range(2, 8)]
    return draw_sweep(SWEEP, flat(0.1), cells, title, "seed 7", 60)


def test_lists_are_read_in_their_order() -> None:
    assert (SWEEP.windows, SWEEP.strengths) == ((0.1, 0.3, 0.5), (1.0, -2.0))
    assert list(SWEEP.cells())[:4] == [(0.1, 1), (0.3, 1), (0.5, 1), (0.1, -2)]
    assert SWEEP.labels()[:2] == ["plain", "window 0.1, strength 1"] and len(SWEEP.labels()) == 7


@pytest.mark.parametrize("text", ["", " ", "a", "1,", "1 2", "0.1; 0.2", "inf", "nan", "2", "-1", "0.5, 0.50"])
def test_a_list_that_cannot_be_read_gets_one_sentence(text: str) -> None:
    with pytest.raises(BadSettings, match="the windows are"):
        read_numbers(text, "windows", 0, 1)


def test_the_plain_column_need_not_be_asked_for() -> None:
    with pytest.raises(BadSettings, match="plain is column one"):
        read_sweep("0.3, 0", "1")


def test_a_list_that_nobody_could_read_on_a_sheet_is_refused() -> None:
    assert len(read_numbers(", ".join(map(str, range(12))), "strengths", 0, 20)) == 12
    with pytest.raises(BadSettings, match="13 strengths came"):
        read_numbers(", ".join(map(str, range(13))), "strengths", 0, 20)


def test_every_picture_stands_in_its_row_and_column() -> None:
    pixels, place = np.asarray(sheet()), lay_out((20, 30), SWEEP, 60)
    assert (place.width, place.height) == (60, 40)
    bottom = pixels.shape[0] - place.margin
    for row in (0, 1):
        y = bottom - (1 - row) * (place.height + place.gap) - place.height // 2
        seen = [int(pixels[y, x + place.width // 2, 0]) for x in (place.plain, *place.edges)]
        assert seen == [round(v * 255) for v in (0.1, *((2 + 3 * row + i) / 10 for i in range(3)))]


def test_labels_are_written_and_a_long_prompt_gets_more_lines() -> None:
    short, long = sheet(), sheet("a dog in the snow " * 20)
    assert long.width == short.width and long.height > short.height
    place = lay_out((20, 30), SWEEP, 60)
    left = np.asarray(short)[-2 * (place.height + place.gap) :, : place.plain]
    assert left.min() < 100 and left[:, : place.margin // 2].min() == 255  # words, and nothing over the edge
