"""Regions: masks on token grids, the overlap rule, and regions that the base model's attention gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dci_core.attention.joint import BlockId, JointCall
from dci_core.attention.regions import region_on, share_rows
from dci_core.attention.rows import TokenRows
from dci_core.dynaip.auto_regions import (
    NounMaps,
    RegionSettings,
    noun_map,
    place_subjects,
    region_from_map,
    watching_rule,
)
from dci_core.dynaip.subject import Subject
from dci_core.errors import BadSettings

GRID, HEADS, WIDTH, TEXTS = (6, 8), 2, 16, 5
LEFT = torch.cat([torch.ones(6, 4), torch.zeros(6, 4)], dim=1)


@pytest.mark.parametrize("size", [(6, 8), (96, 128), (7, 5), (1, 1), (3, 1000)])
def test_a_mask_of_any_size_keeps_its_mean_on_the_grid(size: tuple[int, int]) -> None:
    mask = torch.rand(size, generator=torch.Generator().manual_seed(0))
    on = region_on(mask, GRID)
    assert on.shape == (1, 48)
    assert on.min() >= 0 and on.max() <= 1
    if size[0] % 6 == 0 and size[1] % 8 == 0:
        torch.testing.assert_close(on.mean(), mask.mean())
    assert torch.equal(region_on(torch.ones(size), GRID), torch.ones(1, 48))


def test_a_token_is_the_mean_of_the_area_that_it_covers() -> None:
    mask = torch.zeros(12, 16)
    mask[0, 0] = mask[0, 1] = mask[1, 0] = 1  # three of the four cells of the first token
    on = region_on(mask, GRID)
    assert on[0, 0] == 0.75 and on[0, 1:].sum() == 0


def test_a_batch_of_masks_stays_a_batch() -> None:
    assert torch.equal(region_on(torch.stack([LEFT, 1 - LEFT]), GRID), torch.stack([LEFT, 1 - LEFT]).flatten(1))


def test_covers_that_add_up_to_one_stay_and_larger_ones_are_shared() -> None:
    half, most = torch.full((1, 4), 0.5), torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    first, second = share_rows([half, most])
    torch.testing.assert_close(first, torch.tensor([[0.5, 0.5, 0.5, 1 / 3]]))
    torch.testing.assert_close(second, torch.tensor([[0.0, 0.25, 0.5, 2 / 3]]))


def test_subjects_without_a_region_cover_every_row() -> None:
    assert share_rows([None]) == [1.0]
    assert share_rows([None, None]) == [0.5, 0.5]
    everywhere, somewhere = share_rows([None, torch.tensor([[0.0, 1.0]])])
    assert torch.equal(everywhere, torch.tensor([[1.0, 0.5]]))
    assert torch.equal(somewhere, torch.tensor([[0.0, 0.5]]))
    assert share_rows([]) == []


def looking_call(masks: dict[int, Tensor], block: int = 0, noise: float = 0.0, seed: int = 0) -> JointCall:
    """A call whose image rows look for text row `token` where its mask is 1."""
    g = torch.Generator().manual_seed(seed)
    k = torch.nn.functional.one_hot(torch.arange(TEXTS), WIDTH).float().expand(1, HEADS, -1, -1) * 4
    q = noise * torch.randn(1, HEADS, TEXTS + 48, WIDTH, generator=g)
    for token, mask in masks.items():
        q[:, :, TEXTS:, token] += 4 * mask.flatten()
    rows = TokenRows.text_first(TEXTS, 48)
    return JointCall(q, rows, BlockId("double", block), GRID, torch.ones(1), k)


def test_the_map_of_a_noun_is_its_share_of_the_attention_to_the_prompt() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, HEADS, 48, WIDTH, generator=g), torch.randn(2, HEADS, TEXTS, WIDTH, generator=g)
    naive = (q @ k.mT / WIDTH**0.5).softmax(-1)[..., [1, 3]].sum(-1).mean(1)
    torch.testing.assert_close(noun_map(q, k, [1, 3]), naive)


def test_automatic_regions_find_where_each_noun_is_looked_for() -> None:
    maps = NounMaps([[1], [3]], RegionSettings(from_step=2))
    rule = watching_rule(maps)
    for step in range(2):
        assert maps.regions == [None, None]
        for block in range(3):
            assert rule(looking_call({1: LEFT, 3: 1 - LEFT}, block, noise=0.5, seed=10 * step + block)) is None
        maps.end_step()
    first, second = maps.regions
    assert torch.equal(first[0, :, :3], torch.ones(6, 3)) and first[0, :, 5:].sum() == 0
    assert torch.equal(second[0, :, 5:], torch.ones(6, 3)) and second[0, :, :3].sum() == 0


def test_smoothing_drops_a_lone_token_and_keeps_a_field() -> None:
    lone = torch.zeros(1, 6, 8)
    lone[0, :, :4] = 0.8
    lone[0, 2, 7] = 1.0
    region = region_from_map(lone, 0.5)
    assert region[0, :, :3].all() and region[0, :, 6:].sum() == 0


def test_the_threshold_is_relative_to_the_maximum() -> None:
    ramp = torch.linspace(0, 1, 8).expand(1, 6, 8)
    assert torch.equal(region_from_map(ramp, 0.5), region_from_map(0.01 * ramp, 0.5))
    assert region_from_map(ramp, 0.9).sum() < region_from_map(ramp, 0.3).sum()


def test_steps_blend_and_the_last_ones_count_most() -> None:
    maps = NounMaps([[1]], RegionSettings(from_step=1))
    for mask in (LEFT, 1 - LEFT, 1 - LEFT, 1 - LEFT):
        maps.add(looking_call({1: mask}))
        maps.end_step()
    region = maps.regions[0]
    assert region[0, :, 5:].all() and region[0, :, :3].sum() == 0


def test_subjects_wait_for_their_region_and_a_drawn_one_stands() -> None:
    maps = NounMaps([[1], [3], None], RegionSettings(from_step=1))
    subjects = [Subject(), Subject(region=LEFT), Subject(scale=0.5)]
    waiting = place_subjects(subjects, maps)
    assert (waiting[0].scale, waiting[0].text_scale) == (0.0, 0.0)
    assert waiting[1] is subjects[1] and waiting[2] is subjects[2]
    maps.add(looking_call({1: LEFT, 3: 1 - LEFT}))
    maps.end_step()
    placed = place_subjects(subjects, maps)
    assert placed[0].scale == 1.0 and placed[0].region is not None and placed[0].region.sum() > 0
    assert placed[1].region is LEFT


def test_rows_that_do_not_read_and_calls_without_text_keys_add_nothing() -> None:
    maps = NounMaps([[1]], RegionSettings(from_step=1))
    call = looking_call({1: LEFT})
    maps.add(JointCall(call.q, call.rows, call.block, call.grid, torch.zeros(1), call.text_keys))
    maps.add(JointCall(call.q, call.rows, call.block, call.grid, call.reads))
    maps.end_step()
    assert maps.regions == [None]


def test_a_watched_rule_still_adds_what_it_adds() -> None:
    call = looking_call({1: LEFT})
    assert watching_rule(NounMaps([None]), lambda call: call.q)(call) is call.q


@pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"threshold": 1.5}, {"from_step": 0}, {"memory": 1.0}])
def test_settings_that_can_find_no_region_get_a_sentence(bad: dict[str, float]) -> None:
    with pytest.raises(BadSettings, match="automatic regions"):
        RegionSettings(**bad)
