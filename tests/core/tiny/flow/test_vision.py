"""The vision tower: the public CLIP classes as oracle, what it makes of pictures, and its states by level."""

from __future__ import annotations

import json

import pytest
import torch

from dci_core.dynaip.clip_pixels import MEAN, STD, clip_pixels
from dci_core.tiny.flow.vision import CONFIG_FILE, LEVELS, VisionParams, VisionTower
from dci_core.tiny.text import TextEncoder, TextParams

SOURCE = torch.Generator().manual_seed(2)
PICTURES = torch.rand(2, 3, 64, 64, generator=SOURCE)


@pytest.fixture(scope="module")
def tower() -> VisionTower:
    torch.manual_seed(1)
    return VisionTower().eval().requires_grad_(False)


def test_states_and_vectors_are_those_of_the_public_classes(tower: VisionTower) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(**VisionParams().config())
    public = transformers.CLIPVisionModelWithProjection(config).eval()
    public.load_state_dict(tower.state_dict(), strict=True)
    with torch.no_grad():
        expected = public(pixel_values=clip_pixels(PICTURES, 64), output_hidden_states=True)
    states = tower.states(PICTURES)
    assert len(states) == len(expected.hidden_states) == 1 + VisionParams().layers
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(states, expected.hidden_states, strict=True))
    assert torch.allclose(tower.project(states), expected.image_embeds, atol=1e-4)


def test_every_patch_reads_every_other_while_words_read_only_those_before(tower: VisionTower) -> None:
    other = PICTURES.clone()
    other[..., -8:, -8:] = 0  # the last patch
    assert not torch.equal(tower.states(PICTURES)[1][:, 1], tower.states(other)[1][:, 1])
    text, words = TextEncoder(TextParams(entries=9)), torch.randn(1, 5, 128, generator=SOURCE)
    later = words.clone()
    later[:, -1] += 1
    assert torch.equal(text(words)[:, 0], text(later)[:, 0])
    assert not torch.equal(text(words)[:, -1], text(later)[:, -1])


def test_pictures_are_cut_to_the_middle_rounded_and_standardised() -> None:
    picture = torch.zeros(1, 3, 64, 128)
    picture[..., 32:96] = 0.5001
    found = clip_pixels(picture, 64)
    assert found.shape == (1, 3, 64, 64)
    for channel in range(3):
        assert torch.allclose(found[0, channel], torch.tensor((128 / 255 - MEAN[channel]) / STD[channel]), atol=1e-6)
    assert clip_pixels(torch.rand(1, 3, 300, 200), 64).shape == (1, 3, 64, 64)


def test_levels_are_states_that_the_tower_has(tower: VisionTower) -> None:
    states = tower.states(PICTURES)
    assert {states[level].shape for level in LEVELS} == {(2, VisionParams().tokens, VisionParams().width)}
    assert LEVELS[-1] == VisionParams().layers


def test_the_host_is_told_the_sizes_that_ship() -> None:
    assert json.loads(CONFIG_FILE.read_text()) == VisionParams().config()
