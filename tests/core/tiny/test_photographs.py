"""Photographs in the small world are told; its own pictures, at any size, never are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dci_core.pictures.reference import make_picture, open_rgb
from dci_core.tiny.photographs import MOST_TEXTURE, are_photographs, texture
from dci_core.tiny.world.concepts import CONCEPTS

SIDE = 128


def references() -> Iterator[Image.Image]:
    for concept in CONCEPTS:
        for kind in ("varied", "home"):
            yield from (rendered.picture for rendered in concept.references(kind))


def noisy(level: float) -> torch.Tensor:
    """A picture whose spectrum falls as photographs' does, one over the frequency."""
    rng = np.random.default_rng(5)
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / SIDE)
    waves = np.fft.ifft2(np.fft.fft2(rng.standard_normal((3, SIDE, SIDE))) * fall).real
    return torch.from_numpy((0.5 + level * waves / waves.std()).clip(0, 1)).float()


def test_the_worlds_own_references_never_warn() -> None:
    found = [texture(make_picture(picture, SIDE).pixels) for picture in references()]
    assert len(found) == 200 and max(found) < MOST_TEXTURE / 3


@pytest.mark.parametrize("side", [256, 512])
def test_the_worlds_references_do_not_warn_when_enlarged(side: int) -> None:
    for concept in CONCEPTS[::2]:
        larger = [
            rendered.picture.resize((side, side), Image.Resampling.BICUBIC) for rendered in concept.references("varied")
        ]
        assert not are_photographs([make_picture(picture, SIDE).pixels for picture in larger]), concept.name


def test_photographs_are_told_at_any_size() -> None:
    cbook = pytest.importorskip("matplotlib.cbook")
    photograph = open_rgb(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    for side in (512, 128, 64):
        small = photograph.resize((side, side), Image.Resampling.BICUBIC)
        assert are_photographs([make_picture(small, SIDE).pixels])
    assert are_photographs([noisy(0.15)]) and not are_photographs([noisy(0.0)])


def test_one_photograph_among_the_worlds_pictures_is_no_reason_to_warn() -> None:
    own = [make_picture(picture, SIDE).pixels for picture in list(references())[:3]]
    assert not are_photographs([*own, noisy(0.2)]) and are_photographs([own[0], noisy(0.2), noisy(0.1)])
    assert not are_photographs([])
