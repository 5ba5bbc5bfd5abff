"""Several concepts in one prompt: each one's changes on its own words, each heard in its own region."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall
from dci_core.attention.layers import LayerId
from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.together import LEAST, Part, Together
from dci_core.dci.maps import BranchRows

LAYER, OTHER = LayerId("middle", 0), LayerId("input", 1)
HEADS, WIDTH, GRID, SLOTS = 2, 8, (2, 4), 10
ROWS, CPU = BranchRows((1,), (2,)), torch.device("cpu")  # row 0 is the negative prompt
FIRST, SECOND = (2, 3), (6, 7)


def weight(seed: int) -> Tensor:
    return torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed))


BASE = LayerDelta(Delta(weight(1)), Delta(weight(2)))
CHANGES = tuple(LayerDelta(Delta(weight(seed)), Delta(weight(seed + 1))) for seed in (3, 5))
PARTS = (
    Part(FIRST, (2,), {LAYER: CHANGES[0]}, 0.5),
    Part(SECOND, (6,), {LAYER: CHANGES[1]}, 2.0),
)


def stacked(slots: int = SLOTS) -> AttentionCall:
    """A layer on which both concepts were put, each with its strength."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(3, SLOTS, WIDTH, generator=generator).repeat(1, slots // SLOTS, 1)
    q = torch.randn(3, GRID[0] * GRID[1], WIDTH, generator=generator)
    k, v = (
        context @ (own.up + 0.5 * first.up + 2.0 * second.up).T
        for own, first, second in zip(BASE, *CHANGES, strict=True)
    )
    return AttentionCall(q, k, v, context, HEADS, GRID, LAYER)


def by_hand(call: AttentionCall, weights: dict[int, tuple[float, float]], row: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a row, word by word, with this much of each concept on each slot."""
    found = []
    for part in range(2):
        rows = []
        for slot in range(call.context.shape[1]):
            one, other = weights.get(slot % SLOTS, weights[-1])
            whole = BASE[part].up + one * CHANGES[0][part].up + other * CHANGES[1][part].up
            rows.append(whole @ call.context[row, slot])
        found.append(torch.stack(rows))
    return found[0], found[1]


OWN = {**dict.fromkeys(FIRST, (0.5, 0.0)), **dict.fromkeys(SECOND, (0.0, 2.0))}


@pytest.mark.parametrize("slots", [SLOTS, 2 * SLOTS], ids=["once", "repeated by the host"])
def test_changes_are_taken_off_the_other_concepts_words(slots: int) -> None:
    call = stacked(slots)
    moved = Together(PARTS, SLOTS, SLOTS, common=1.0, others=1.0).change(ROWS, CPU)(call)
    k, v = by_hand(call, {**OWN, -1: (0.5, 2.0)}, row=1)
    torch.testing.assert_close(moved.k[1], k, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.v[1], v, rtol=1e-4, atol=1e-4)
    assert torch.equal(moved.k[[0, 2]], call.k[[0, 2]]) and torch.equal(moved.v[[0, 2]], call.v[[0, 2]])


def test_shares_on_common_words_and_other_rows_are_what_was_asked() -> None:
    call = stacked()
    moved = Together(PARTS, common=0.25, others=0.0).change(ROWS, CPU)(call)
    torch.testing.assert_close(moved.k[1], by_hand(call, {**OWN, -1: (0.125, 0.5)}, 1)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.v[2], by_hand(call, {-1: (0.0, 0.0)}, 2)[1], rtol=1e-4, atol=1e-4)


def test_a_layer_without_changes_and_concepts_left_stacked_keep_their_bits() -> None:
    call = replace(stacked(), layer=OTHER)
    assert Together(PARTS).change(ROWS, CPU)(call) is call
    still = Together(PARTS, common=1.0, others=1.0, apart=False).change(ROWS, CPU)(stacked())
    assert torch.equal(still.k, stacked().k) and torch.equal(still.v, stacked().v)


def test_a_region_is_where_a_concepts_words_and_its_stand_in_are_heard() -> None:
    left = torch.zeros(4, 8)
    left[:, :4] = 1
    parts = (replace(PARTS[0], region=left), PARTS[1])
    call = Together(parts, common=1.0, others=1.0, apart=False).change(ROWS, CPU)(stacked())
    assert call.bias is not None and call.bias.shape == (3, GRID[0] * GRID[1], SLOTS)
    bias = call.bias.reshape(3, *GRID, SLOTS)
    silent = torch.tensor(LEAST).log()
    assert not bias[0].any() and not bias[1][:, :, SECOND].any() and not bias[:, :, :2].any()
    for row, slots in ((1, FIRST), (2, (2,))):
        assert torch.equal(bias[row][:, 2:][:, :, slots], silent.expand(2, 2, len(slots)))
    assert float(bias.sum()) == pytest.approx(float(silent) * 4 * 3, rel=1e-5)


def test_each_picture_has_its_own_mask_where_there_are_several() -> None:
    masks = torch.zeros(2, 2, 4)
    masks[0, :, :2] = masks[1, :, 2:] = 1
    parts = (replace(PARTS[0], region=masks), PARTS[1])
    rows = BranchRows((0, 1), (2,))
    bias = Together(parts).change(rows, CPU)(stacked()).bias
    assert bias is not None
    halves = bias.reshape(3, *GRID, SLOTS)[:, 0, :, FIRST[0]]
    assert (halves < 0).tolist() == [[False, False, True, True], [True, True, False, False], [False, False, True, True]]


def test_words_that_are_nobodys_see_the_mean_of_the_concepts() -> None:
    call = stacked()
    moved = Together(PARTS).change(ROWS, CPU)(call)
    torch.testing.assert_close(moved.k[1], by_hand(call, {**OWN, -1: (0.25, 1.0)}, 1)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved.v[0], by_hand(call, {-1: (0.25, 1.0)}, 0)[1], rtol=1e-4, atol=1e-4)
    alone = Together(PARTS[:1]).change(ROWS, CPU)(call)
    assert torch.equal(alone.k, call.k) and torch.equal(alone.v, call.v)
