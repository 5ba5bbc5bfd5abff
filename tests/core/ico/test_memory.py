"""Presets for cards: passes that fit, the same pictures in an update."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from dci_core.errors import BadSettings
from dci_core.ico.memory import AS_SET, CARDS, CHOICES, GIB, Split, Weights, split_for, split_settings
from dci_core.ico.rank import AUTO, choose_rank
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import family_widths

WEIGHTS = {  # fp16, as ComfyUI loads them on a card
    "sd15": Weights(int(1.60 * GIB), int(0.23 * GIB)),
    "sd21": Weights(int(1.61 * GIB), int(0.66 * GIB)),
    "sdxl": Weights(int(4.78 * GIB), int(1.52 * GIB)),
}
SIZES = {"sd15": 512, "sd21": 768, "sdxl": 1024}
HALF = IcoSettings(batch=4, accumulation=2, precision="fp16")


def split(family: str, card: str, size_px: int | None = None, **changes: object) -> Split:
    widths = family_widths(family)
    settings = replace(HALF, rank=choose_rank(AUTO, widths), **changes)
    name = family.partition("_")[0]
    found = split_for(card, settings, family, widths, WEIGHTS[name], size_px or SIZES[name])
    assert found is not None
    return found


@pytest.mark.parametrize("family", [*SIZES, "sd15_v", "sd21_base", "sdxl_v"])
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
    assert split_for(AS_SET, HALF, "sdxl", widths, WEIGHTS["sdxl"], 1024) is None
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
        split_for("8 GB", HALF, "sdxl", widths, WEIGHTS["sdxl"], 1024)  # full rank: 5.5 GB learned
