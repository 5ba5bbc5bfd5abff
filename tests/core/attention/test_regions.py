"""Boxes and masks on token grids."""

from __future__ import annotations

import pytest
import torch

from dci_core.attention.regions import read_box, region_on
from dci_core.errors import BadSettings


def test_a_box_covers_its_share_of_any_grid() -> None:
    box = read_box("0.25, 0.5 0.5 0.25")
    assert box is not None and abs(float(box.mean()) - 0.125) < 1e-6
    grid = region_on(box, (4, 4)).reshape(4, 4)
    expected = torch.zeros(4, 4)
    expected[2, 1:3] = 1
    torch.testing.assert_close(grid, expected)


def test_edges_between_cells_are_shared_out() -> None:
    box = read_box("0 0 0.3 1")
    assert box is not None
    torch.testing.assert_close(region_on(box, (1, 2))[0], torch.tensor([0.6, 0.0]), atol=1e-6, rtol=0)


def test_names_stand_for_halves() -> None:
    left, right = read_box("left"), read_box(" Right")
    assert left is not None and right is not None
    torch.testing.assert_close(left + right, torch.ones_like(left))
    assert read_box("  ") is None


@pytest.mark.parametrize("text", ["middle", "0 0 1", "0.6 0 0.5 1", "0 0 0 1", "-0.1 0 1 1", "nan 0 1 1", "0 0 1 inf"])
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="the box is"):
        read_box(text)
