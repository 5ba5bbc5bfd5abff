"""What chance decides in one pass: the drawn pictures as the network gets them."""

import pytest
import torch

from dci_core.ico.draws import Draw


@pytest.fixture
def draw() -> Draw:
    """Two rows: picture 3 mirrored, picture 0 as it is."""
    return Draw(torch.tensor([3, 0]), torch.tensor([1, 0]), torch.zeros(2), torch.zeros(2), torch.zeros(2, 4, 8, 8))


def test_picked_pictures_lie_in_memory_as_they_came(draw: Draw) -> None:
    held = torch.randn(5, 2, 8, 8, 4).permute(0, 1, 4, 2, 3)  # channels innermost, as a codec's convolution gives them
    rows = draw.pick(held)
    assert torch.equal(rows, torch.stack([held[3, 1], held[0, 0]]))
    assert rows.stride()[1:] == held.stride()[2:]  # in another order a convolution has other last bits
