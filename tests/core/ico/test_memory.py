"""Presets for cards: passes that fit, the same pictures in an update."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from dci_core.errors import BadSettings
from dci_core.ico.memory import AS_SET, CARDS, CHOICES, GIB, Split, Weights, split_for, split_settings
from dci_core.ico.rank import AUTO, choose_rank
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import family_widths

from .base_sizes import BYTES, STREAMS, U_NETS
from .memory_table import SIZES, counted_line, preset_lines, weights_of

HALF = IcoSettings(batch=4, accumulation=2, precision="fp16")


def split(family: str, card: str, size_px: int | None = None, kind: str = "half", **changes: object) -> Split:
    widths = family_widths(family)
    settings = replace(HALF, rank=choose_rank(AUTO, widths), **changes)
    name = family if family in BYTES else family.partition("_")[0]
    found = split_for(card, settings, family, widths, weights_of(name, kind), size_px or SIZES[name][-1])
    assert found is not None
    return found


@pytest.mark.parametrize("family", [*U_NETS, "sd15_v", "sd21_base", "sdxl_v"])
def test_every_card_has_a_split_that_fits_it_and_changes_no_update(family: str) -> None:
    found = [split(family, card) for card in CARDS]
    for one, gigabytes in zip(found, CARDS.values(), strict=True):
        assert one.batch * one.accumulation == 8 and one.batch <= 4
        assert one.total < gigabytes * GIB
        settings = split_settings(HALF, one)
        assert settings.rate == HALF.rate
    for small, large in pairwise(found):
        assert small.batch <= large.batch and small.text_on_cpu >= large.text_on_cpu
    assert found[-1].batch == 4 and not found[-1].text_on_cpu


def test_sdxl_at_1024_px_fits_below_8_gib_with_its_text_encoders_elsewhere() -> None:
    one = split("sdxl", "8 GB")
    assert (one.batch, one.accumulation, one.text_on_cpu) == (1, 8, True) and one.total < 7 * GIB
    assert not split("sd15", "8 GB").text_on_cpu


def test_nothing_is_chosen_where_nothing_is_asked_or_counted() -> None:
    widths = family_widths("sdxl")
    assert split_for(AS_SET, HALF, "sdxl", widths, weights_of("sdxl"), 1024) is None
    for family in ("tiny", "tiny_flow"):
        assert split_for("8 GB", HALF, family, family_widths(family), Weights(0, 0), 128) is None
    assert CHOICES[0] == AS_SET


def test_larger_pictures_and_fp32_take_smaller_passes() -> None:
    assert split("sd15", "8 GB", 1024).batch < split("sd15", "8 GB", 512).batch
    assert split("sdxl", "16 GB", precision="fp32").batch < split("sdxl", "16 GB").batch
    assert split("sdxl", "12 GB", prior="none").batch > split("sdxl", "12 GB").batch


def test_what_fits_in_no_way_is_refused_with_its_size() -> None:
    with pytest.raises(BadSettings, match=r"one picture of 2048 px .* GiB"):
        split("sdxl", "8 GB", 2048)
    widths = family_widths("sdxl")
    with pytest.raises(BadSettings, match="lower size_px or rank"):
        split_for("8 GB", HALF, "sdxl", widths, weights_of("sdxl"), 1024)  # full rank: 5.5 GB learned


@pytest.mark.parametrize("family", STREAMS)
def test_transformers_are_split_as_u_nets_are_and_eight_bits_take_smaller_cards(family: str) -> None:
    half = [card for card in CARDS if fits(family, card)]
    eight = [card for card in CARDS if fits(family, card, kind="fp8")]
    assert eight and set(half) <= set(eight)
    for card in eight:
        one = split(family, card, kind="fp8")
        assert one.batch * one.accumulation == 8 and one.total < CARDS[card] * GIB


def fits(family: str, card: str, **given: str) -> bool:
    """Whether anything is chosen for it."""
    try:
        split(family, card, **given)
    except BadSettings:
        return False
    return True


def test_a_transformer_in_half_precision_without_room_is_told_of_eight_bits() -> None:
    with pytest.raises(BadSettings, match="load the model with fp8 weights, lower"):
        split("qwen_image", "24 GB")
    with pytest.raises(BadSettings, match="expected; lower"):
        split("qwen_image", "16 GB", kind="fp8")


@pytest.mark.parametrize("family", BYTES)
def test_the_documents_show_what_is_counted(family: str) -> None:
    """`python -m tests.core.ico.memory_table` prints these lines."""
    root = Path(__file__).parents[3]
    assert counted_line(family) in (root / "docs/performance.md").read_text(encoding="utf-8")
    page = (root / "js/docs/ICOTrainConcept.md").read_text(encoding="utf-8")
    assert [line for line in preset_lines(family) if line not in page] == []
