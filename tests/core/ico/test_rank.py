"""The rank that each family is trained at, and what it costs."""

from __future__ import annotations

import pytest

from dci_core.concept.deltas import Widths
from dci_core.errors import BadSettings
from dci_core.ico.rank import AUTO, CHOICES, FULL, choose_rank, rank_rate
from dci_core.ico.state import family_widths


def numbers(widths: Widths, rank: int | None) -> int:
    """How many are learned in keys and values."""
    return 2 * sum(i * c if rank is None else rank * (i + c) for i, c in widths.values())


def test_sdxl_is_trained_as_factors_and_smaller_families_whole() -> None:
    for name in ("tiny", "sd15", "sd15_v", "sd21", "sd21_base"):
        assert choose_rank(AUTO, family_widths(name)) is None, name
    for name in ("sdxl", "sdxl_v"):
        widths = family_widths(name)
        assert choose_rank(AUTO, widths) == 32
        assert numbers(widths, None) * 4 * 4 > 5e9 > 20 * numbers(widths, 32) * 4 * 4  # bytes with gradient and AdamW


def test_a_rank_that_is_asked_for_is_taken() -> None:
    widths = family_widths("sdxl")
    assert choose_rank(FULL, widths) is None
    assert [choose_rank(choice, widths) for choice in CHOICES[2:]] == [4, 8, 16, 32, 64, 128]
    for bad in ("0", "-4", "half", "1.5", ""):
        with pytest.raises(BadSettings, match="rank"):
            choose_rank(bad, widths)


def test_fewer_factors_learn_faster_by_text_width_over_rank_and_never_slower_than_all() -> None:
    assert [rank_rate(rank, family_widths("sdxl")) for rank in (None, 4, 32, 4096)] == [1, 512, 64, 1]
    assert rank_rate(4, family_widths("tiny")) == 32
