"""Fusion of hidden states: experts, router, the user's weights and the dial of granularity."""

from __future__ import annotations

import pytest
import torch

from dci_core.dynaip.fusion import granularity_bias, level_entropy, level_weights
from dci_core.dynaip.resampler import ExpertParams, Resampler
from dci_core.errors import BadModel, BadSettings

from ..small_adapters import LEVELS, VISION_LAYERS, draw_states, trained, untrained

ONE_HOT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def test_an_untrained_router_weighs_all_levels_the_same_and_a_trained_one_does_not() -> None:
    third = torch.full((2, 3), 1 / 3)
    torch.testing.assert_close(untrained().fuse(draw_states(2)).weights, third)
    assert not torch.allclose(trained().fuse(draw_states(2)).weights, third, atol=1e-2)


def test_the_weights_sum_to_one_and_follow_the_picture() -> None:
    weights = trained().fuse(draw_states(4)).weights
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4))
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.parametrize("chosen", range(3))
def test_a_weight_of_one_selects_a_single_expert(chosen: int) -> None:
    adapter, states = trained(), draw_states(2)
    fused = adapter.fuse(states, weights=ONE_HOT[chosen])
    alone = adapter.fusion.experts[chosen](states[LEVELS[chosen]])
    assert torch.equal(fused.tokens, alone)
    assert torch.equal(fused.weights, torch.tensor([ONE_HOT[chosen]] * 2))
    assert not torch.allclose(fused.tokens, adapter.fuse(states).tokens)


def test_the_tokens_are_the_weighted_sum_of_the_experts() -> None:
    adapter, states = trained(), draw_states(2)
    fused = adapter.fuse(states)
    parts = [expert(states[level]) for expert, level in zip(adapter.fusion.experts, LEVELS, strict=True)]
    naive = sum(fused.weights[:, i, None, None] * part for i, part in enumerate(parts))
    torch.testing.assert_close(fused.tokens, naive)


def test_a_users_weights_are_brought_to_the_sum_one() -> None:
    adapter, states = trained(), draw_states()
    assert torch.equal(adapter.fuse(states, (2.0, 1.0, 1.0)).weights, torch.tensor([[0.5, 0.25, 0.25]]))


def test_the_bias_is_softmax_of_log_weights_plus_beta() -> None:
    logits, beta = torch.randn(2, 3, generator=torch.Generator().manual_seed(1)), (0.5, -1.0, 2.0)
    naive = (logits.softmax(-1).log() + torch.tensor(beta)).softmax(-1)
    torch.testing.assert_close(level_weights(logits, bias=beta), naive)
    torch.testing.assert_close(level_weights(logits, bias=(0.0, 0.0, 0.0)), logits.softmax(-1))
    assert torch.equal(level_weights(logits, ONE_HOT[0], bias=beta), torch.tensor([ONE_HOT[0]] * 2))


def test_the_dial_goes_from_texture_to_meaning() -> None:
    logits = torch.zeros(1, 3)
    weights = torch.cat([level_weights(logits, bias=granularity_bias(g, 3)) for g in (-1, -0.5, 0, 0.5, 1)])
    assert (weights[1:, 2] > weights[:-1, 2]).all()
    assert (weights[1:, 0] < weights[:-1, 0]).all()
    assert weights[0, 0] > 0.98 and weights[-1, 2] > 0.98
    torch.testing.assert_close(weights[2], torch.full((3,), 1 / 3))
    assert granularity_bias(1.0, 1) == (0.0,)


def test_entropy_tells_how_evenly_levels_are_used() -> None:
    torch.testing.assert_close(level_entropy(torch.tensor([[1 / 3] * 3, [1.0, 0, 0]])), torch.tensor([1.0, 0.0]))


def test_every_expert_and_the_router_get_gradients() -> None:
    adapter = trained().requires_grad_(True)
    (adapter.fuse(draw_states(2)).tokens ** 3).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.fusion.parameters())


def test_only_the_chosen_states_are_needed() -> None:
    adapter, states = trained(), draw_states()
    assert torch.equal(adapter.fuse({level: states[level] for level in LEVELS}).tokens, adapter.fuse(states).tokens)


def test_a_resampler_has_the_sizes_of_the_paper_notes() -> None:
    with torch.device("meta"):
        expert = Resampler(ExpertParams())
        assert expert(torch.empty(2, 257, 1024)).shape == (2, 16, 3072)
        assert expert(torch.empty(1, 577, 1024)).shape == (1, 16, 3072)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 0.0, 0.0), (-1.0, 1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_weights_that_cannot_be_shares_get_a_sentence(weights: tuple[float, ...]) -> None:
    with pytest.raises(BadSettings, match="level weights"):
        trained().fuse(draw_states(), weights)


def test_a_granularity_beyond_the_dial_gets_a_sentence() -> None:
    with pytest.raises(BadSettings, match="granularity is 2"):
        granularity_bias(2.0, 3)


def test_a_vision_model_of_another_depth_or_width_gets_a_sentence() -> None:
    states = draw_states()
    with pytest.raises(BadModel, match=f"5 layers; {VISION_LAYERS} were expected"):
        trained().fuse(states[:-1])
    with pytest.raises(BadModel, match=r"\(1, 5, 11\)"):
        trained().fuse([state[..., 1:] for state in states])
    with pytest.raises(BadModel, match="number 6 was expected"):
        trained().fuse({2: states[2], 4: states[4]})
