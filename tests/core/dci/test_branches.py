"""The branch axis, the row plan and DCI's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from dci_core.attention.layers import LayerMask
from dci_core.dci.branches import DciSettings, NoiseStream, auxiliary_seed, pair, start_noise, unpair
from dci_core.dci.row_plan import RowPlan, plan_rows, tags_of
from dci_core.errors import BadLayers, BadSettings
from dci_core.families.table import FAMILIES

TINY = FAMILIES["tiny"]
BOTH = (False, True)  # an unconditional chunk, then a conditional one


def planned(is_cond: Sequence[bool], num_pictures: int, **how: Any) -> RowPlan:
    """The plan of a batch of such chunks."""
    return plan_rows(tags_of(is_cond, num_pictures), num_chunks=len(is_cond), **how)


def test_pairs_interleave_and_come_apart() -> None:
    x, y = torch.arange(12.0).reshape(2, 1, 2, 3), -torch.arange(12.0).reshape(2, 1, 2, 3)
    both = pair(x, y)
    assert torch.equal(both[0], x[0]) and torch.equal(both[1], y[0]) and torch.equal(both[2], x[1])
    assert all(torch.equal(a, b) for a, b in zip(unpair(both), (x, y), strict=True))


# Rows of two pictures: 0 x1 1 y1 2 x2 3 y2 without the prompt, 4 x1 5 y1 6 x2 7 y2 with it.
@pytest.mark.parametrize(
    ("guidance", "acts", "runs", "concept", "auxiliary", "borrows"),
    [
        ("shared", True, (0, 2, 4, 5, 6, 7), (2, 4), (3, 5), ((1, 0), (3, 2))),
        ("separate", True, (0, 1, 2, 3, 4, 5, 6, 7), (4, 6), (5, 7), ()),
        ("aligned", True, (0, 1, 2, 3, 4, 5, 6, 7), (4, 6), (5, 7), ()),
        ("shared", False, (0, 2, 4, 6), (), (), ()),
        ("separate", False, (0, 2, 4, 6), (), (), ()),
    ],
)
def test_row_plan_runs_only_what_is_needed(
    guidance: str, acts: bool, runs: tuple, concept: tuple, auxiliary: tuple, borrows: tuple
) -> None:
    plan = planned(BOTH, 2, acts=acts, guidance=guidance)
    assert (plan.num_rows, plan.runs, plan.borrows) == (8, runs, borrows)
    assert (plan.branches.concept, plan.branches.auxiliary) == (concept, auxiliary)
    assert [plan.runs[row] for row in plan.branches.concept] == ([4, 6] if acts else [])


def test_chunks_may_come_in_any_order_and_number() -> None:
    turned = planned((True, False), 1, acts=True, guidance="shared")
    assert (turned.runs, turned.branches.concept, turned.borrows) == ((0, 1, 2), (0,), ((3, 2),))
    alone = planned((True,), 1, acts=True, guidance="shared")
    assert (alone.runs, alone.borrows) == ((0, 1), ())
    assert planned((False,), 1, acts=True, guidance="shared").branches.concept == ()


def test_rows_that_did_not_run_return_their_input_or_borrow() -> None:
    x = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    plan = planned(BOTH, 2, acts=True, guidance="shared")
    x0 = plan.take(x) * 0.5
    full = plan.fill(x, x0)
    assert torch.equal(full[list(plan.runs)], x0)
    torch.testing.assert_close(full[1], x0[0] + (x[1] - x[0]))  # x0_u(x) + (y - x)
    torch.testing.assert_close(full[3], x0[1] + (x[3] - x[2]))
    resting = planned(BOTH, 2, acts=False, guidance="shared")
    full = resting.fill(x, resting.take(x) * 0.5)
    assert torch.equal(full[1::2], x[1::2]) and torch.equal(full[0::2], x[0::2] * 0.5)
    everything = planned(BOTH, 2, acts=True, guidance="separate")
    assert everything.take(x) is x and everything.fill(x, x0) is x0


def test_borrowed_noise_is_the_concept_latents_own() -> None:
    sigma, x = 3.0, torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    plan = planned(BOTH, 1, acts=True, guidance="shared")
    full = plan.fill(x, plan.take(x) * 0.2)
    noise = (x - full) / sigma
    torch.testing.assert_close(noise[1], noise[0])
    assert not torch.allclose(noise[3], noise[2])


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32, 2**64 - 1])
def test_auxiliary_stream_is_another_one(seed: int) -> None:
    other = auxiliary_seed(seed)
    assert 0 <= other < 2**63 and other == auxiliary_seed(seed)
    streams = [NoiseStream([s], (1, 4, 4)).draw() for s in (seed, other)]
    assert not torch.allclose(*streams)


def test_noise_of_a_picture_does_not_depend_on_its_batch() -> None:
    alone, among = NoiseStream([7], (2, 3, 3)), NoiseStream([5, 7], (2, 3, 3))
    for _ in range(3):
        assert torch.equal(alone.draw()[0], among.draw()[1])


def test_aligned_branches_start_from_the_same_noise() -> None:
    x, y = torch.randn(2, 1, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    assert torch.equal(*unpair(start_noise(x, y, "aligned")))
    assert all(torch.equal(a, b) for a, b in zip(unpair(start_noise(x, y, "separate")), (x, y), strict=True))


def test_off_is_a_closed_window_or_no_share() -> None:
    assert DciSettings(window=0.0).is_off(TINY) and DciSettings(layers=LayerMask("all:0")).is_off(TINY)
    assert not DciSettings(strength=0.0).is_off(TINY)
    with pytest.raises(BadLayers):
        DciSettings(layers=LayerMask("")).is_off(TINY)


def test_gain_mode_chooses_the_reference() -> None:
    assert DciSettings(gain="reference").dbim(TINY).reference_tokens is None
    assert DciSettings(gain="scaled").dbim(TINY).reference_tokens == TINY.reference_tokens
    shifted = DciSettings(gain="shifted").dbim(TINY)
    assert (shifted.form, shifted.reference_tokens) == ("shift", TINY.reference_tokens)
    assert DciSettings(gain="scaled").dbim(TINY).form == DciSettings(gain="reference").dbim(TINY).form == "scale"


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance": "none"},
        {"gain": "double"},
        {"strength": float("nan")},
        {"strength": float("inf")},
        {"fixed_weight": 1.5},
        {"region": torch.full((2, 2), 1.5)},
        {"region": torch.full((2, 2), float("nan"))},
    ],
)
def test_impossible_settings_are_refused(changes: dict) -> None:
    with pytest.raises(BadSettings):
        DciSettings(**changes).dbim(TINY)


def test_a_borrowed_estimate_moves_as_far_as_it_is_told() -> None:
    plan = plan_rows(tags_of([False, True], 1), acts=True, guidance="shared", num_chunks=2)
    x, x0 = torch.randn(4, 1, 2, 2), torch.randn(3, 1, 2, 2)
    assert torch.equal(plan.fill(x, x0, 1.0), plan.fill(x, x0))
    assert torch.equal(plan.fill(x, x0, 0.0)[1], x0[0])
    assert torch.allclose(plan.fill(x, x0, 0.25)[1], x0[0] + 0.25 * (x[1] - x[0]))
