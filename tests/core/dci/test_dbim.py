"""DBIM: the naive formula, its properties, and what it leaves alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall
from dci_core.attention.layers import LayerId
from dci_core.attention.spans import attention_probabilities
from dci_core.dci.dbim import DbimSettings, branch_weights, dbim_rule, integrate
from dci_core.dci.maps import BranchRows
from dci_core.errors import BadModel
from dci_core.families.table import FAMILIES
from dci_core.text.tokens import PairTokens, TokenSet

LAYER = LayerId("middle", 0)
HEADS, HEAD_DIM, GRID = 2, 4, (4, 6)
CPU = torch.device("cpu")
ROWS = BranchRows(concept=(2, 3), auxiliary=(4, 5))  # two rows before them are unconditional
TOKENS = PairTokens(TokenSet(span=(2, 3), real=(1, 2, 3, 4, 5)), TokenSet(span=(2,), real=(1, 2, 3, 4)))
FULL = DbimSettings(shares={LAYER: 1.0}, strength=1.4)


def make_call(dtype: torch.dtype = torch.float64, rows: int = 6, slots: int = 77, seed: int = 0) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    n, width = GRID[0] * GRID[1], HEADS * HEAD_DIM
    q, k, v = (torch.randn(rows, size, width, generator=g, dtype=torch.float64) * 2 for size in (n, slots, slots))
    return AttentionCall(q.to(dtype), k.to(dtype), v.to(dtype), k.to(dtype), HEADS, GRID, LAYER)


def apply_rule(call: AttentionCall, settings: DbimSettings = FULL, rows: BranchRows = ROWS) -> Tensor:
    return dbim_rule(settings, rows, TOKENS, CPU)(call)


def measured(call: AttentionCall, settings: DbimSettings = FULL, rows: BranchRows = ROWS) -> Tensor:
    seen: list[Tensor] = []
    dbim_rule(settings, rows, TOKENS, CPU, lambda layer, weights, grid: seen.append(weights))(call)
    return seen[0]


def naive(call: AttentionCall, strength: float) -> Tensor:
    """The formula one number at a time."""
    out = call.plain().clone()
    n = call.q.shape[1]
    for c, a in zip(ROWS.concept, ROWS.auxiliary, strict=True):
        for h in range(HEADS):
            part = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
            maps = []
            for row, tokens in ((c, TOKENS.concept), (a, TOKENS.auxiliary)):
                p = (call.q[row, :, part] @ call.k[row, :, part].T / math.sqrt(HEAD_DIM)).softmax(-1)
                e = torch.exp(10 * p)
                total = sum(e[:, slot] for slot in tokens.real)
                maps.append(sum(e[:, slot] for slot in tokens.span) / total)
            g_c = 500 * torch.exp(10 * maps[0]) / torch.exp(10 * maps[0]).sum()
            g_a = 500 * torch.exp(10 * (1 - maps[1])) / torch.exp(10 * (1 - maps[1])).sum()
            for i in range(n):
                w = 1 / (1 + math.exp(-float(g_c[i] - strength * g_a[i])))
                out[c, i, part] = w * call.plain()[c, i, part] + (1 - w) * call.plain()[a, i, part]
    return out


@pytest.mark.parametrize("strength", [-2.0, 0.0, 1.4, 2.0])
def test_rule_equals_the_naive_formula(strength: float) -> None:
    call = make_call()
    torch.testing.assert_close(apply_rule(call, replace(FULL, strength=strength)), naive(call, strength))


def test_only_concept_rows_change() -> None:
    call = make_call(torch.float32)
    out, plain = apply_rule(call), call.plain()
    untouched = [0, 1, 4, 5]
    assert torch.equal(out[untouched], plain[untouched])
    assert (out[[2, 3]] - plain[[2, 3]]).abs().amax(dim=(1, 2)).min() > 0.1


def test_plain_attention_is_asked_once_for_all_rows() -> None:
    asked: list[int] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        asked.append(len(q))
        return torch.zeros_like(q)

    apply_rule(replace(make_call(), attend=attend))
    assert asked == [6]


def test_interleaved_rows_give_what_blocks_give() -> None:
    call = make_call()
    order = [0, 2, 4, 1, 3, 5]  # uncond concept auxiliary, twice
    mixed = replace(call, q=call.q[order], k=call.k[order], v=call.v[order])
    torch.testing.assert_close(apply_rule(mixed, rows=BranchRows((1, 4), (2, 5))), apply_rule(call)[order])


def test_weights_are_a_softmax_over_the_branches() -> None:
    g = torch.Generator().manual_seed(3)
    concept, auxiliary = torch.rand(2, 2, 3, 64, generator=g, dtype=torch.float64)
    gains = [500 * (10 * maps).softmax(-1) for maps in (concept, auxiliary)]
    pair = torch.stack([gains[0], 1.4 * gains[1]]).softmax(dim=0)
    torch.testing.assert_close(branch_weights(concept, auxiliary, 1.4), pair[0])


FLAT_TABLE = {  # tokens: shares at strengths -2 -1 0 0.5 1 1.4 2
    4096: (0.59, 0.56, 0.53, 0.52, 0.50, 0.49, 0.47),
    1024: (0.81, 0.73, 0.62, 0.56, 0.50, 0.45, 0.38),
    256: (0.997, 0.98, 0.88, 0.73, 0.50, 0.31, 0.12),
    64: (1.0, 1.0, 0.9996, 0.98, 0.50, 0.04, 0.0004),
}


@pytest.mark.parametrize("tokens", FLAT_TABLE)
def test_flat_maps_give_the_tabled_share(tokens: int) -> None:
    flat = torch.zeros(1, 1, tokens, dtype=torch.float64)
    for strength, printed in zip((-2, -1, 0, 0.5, 1, 1.4, 2), FLAT_TABLE[tokens], strict=True):
        weight = float(branch_weights(flat, flat, strength)[0, 0, 0])
        assert weight == pytest.approx(1 / (1 + math.exp(-(1 - strength) * 500 / tokens)))
        digits = len(str(printed).split(".")[1])
        assert abs(weight - printed) <= 0.51 * 10**-digits


def test_a_shifted_strength_agrees_with_the_published_form_where_maps_are_flat_or_strength_is_one() -> None:
    flat = torch.zeros(1, 1, 256, dtype=torch.float64)
    for strength in (-2, 0.5, 1, 2):
        shifted = branch_weights(flat, flat, strength, form="shift")
        torch.testing.assert_close(shifted, branch_weights(flat, flat, strength))
    region = (torch.arange(256) < 51).double()[None, None]
    maps = 0.3 * region, 1 - 0.3 * region
    torch.testing.assert_close(branch_weights(*maps, 1.0, form="shift"), branch_weights(*maps, 1.0))
    both = region, 0.8 * region  # a place that both claim, the concept more
    scaled, shifted = (branch_weights(*both, 2.0, form=form)[0, 0, 0] for form in ("scale", "shift"))
    assert float(scaled) < 0.01 < float(shifted)


def test_layers_fade_together() -> None:
    settings = DbimSettings(shares={LAYER: 0.5})
    assert settings.faded(1.0) is settings and settings.faded(0.5).shares == {LAYER: 0.25}


@pytest.mark.parametrize(("tokens", "inside", "outside"), [(256, 1.0, 0.12), (4096, 0.62, 0.47)])
def test_a_fifth_of_the_picture_holds_the_concept(tokens: int, inside: float, outside: float) -> None:
    region = (torch.arange(tokens) < tokens // 5).double()[None, None]
    weights = branch_weights(0.3 * region, 1 - 0.3 * region, 1.0)[0, 0]  # mass gap 0.3 on either side
    assert weights[0] == pytest.approx(inside, abs=0.005) and weights[-1] == pytest.approx(outside, abs=0.005)


def test_only_the_pattern_of_a_map_matters() -> None:
    g = torch.Generator().manual_seed(4)
    concept, auxiliary = torch.rand(2, 1, 2, 64, generator=g, dtype=torch.float64) / 2
    torch.testing.assert_close(
        branch_weights(concept + 0.3, auxiliary + 0.1, 1.4), branch_weights(concept, auxiliary, 1.4)
    )
    assert not torch.allclose(branch_weights(2 * concept, auxiliary, 1.4), branch_weights(concept, auxiliary, 1.4))


def test_permuted_positions_give_permuted_results() -> None:
    call = make_call()
    order = torch.randperm(call.q.shape[1], generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(apply_rule(replace(call, q=call.q[:, order])), apply_rule(call)[:, order])


def test_heads_and_pictures_do_not_see_each_other() -> None:
    call = make_call()
    q = call.q.clone()
    q[3] += 1  # the second picture
    q[2, :, HEAD_DIM:] += 1  # the first picture's second head
    before, after = apply_rule(call), apply_rule(replace(call, q=q))
    assert torch.equal(before[2, :, :HEAD_DIM], after[2, :, :HEAD_DIM])
    assert not torch.allclose(before[2, :, HEAD_DIM:], after[2, :, HEAD_DIM:])
    assert not torch.allclose(before[3], after[3])


def test_extreme_strengths_choose_one_branch_and_zero_blends() -> None:
    call = make_call()
    plain = call.plain()
    torch.testing.assert_close(apply_rule(call, replace(FULL, strength=-1e6))[[2, 3]], plain[[2, 3]])
    torch.testing.assert_close(apply_rule(call, replace(FULL, strength=1e6))[[2, 3]], plain[[4, 5]])
    neutral = measured(call, replace(FULL, strength=0.0))
    assert neutral.min() > 0.5 and neutral.min() < 0.6  # a blend where the concept is weak: zero is not off


def test_equal_branches_agree_within_rounding() -> None:
    call = make_call()
    same = replace(call, q=call.q[[0, 1, 2, 3, 2, 3]], k=call.k[[0, 1, 2, 3, 2, 3]], v=call.v[[0, 1, 2, 3, 2, 3]])
    torch.testing.assert_close(apply_rule(same), same.plain(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(apply_rule(call), call.plain())


def test_share_goes_from_plain_to_integrated() -> None:
    call = make_call()
    plain, full = call.plain(), apply_rule(call)
    half = apply_rule(call, replace(FULL, shares={LAYER: 0.5}))
    torch.testing.assert_close(half, (plain + full) / 2)
    for nothing in ({LAYER: 0.0}, {}, {LayerId("input", 1): 1.0}):
        assert torch.equal(apply_rule(call, replace(FULL, shares=nothing)), plain)


def test_region_holds_the_effect_inside() -> None:
    call = make_call()
    plain, full = call.plain(), apply_rule(call)
    region = torch.zeros(8, 12)
    region[:, 6:] = 1  # the right half, at twice the layer's size
    out = apply_rule(call, replace(FULL, region=region)).unflatten(1, GRID)
    assert torch.equal(out[:, :, :3], plain.unflatten(1, GRID)[:, :, :3])
    torch.testing.assert_close(out[:, :, 3:], full.unflatten(1, GRID)[:, :, 3:])
    assert torch.equal(apply_rule(call, replace(FULL, region=torch.zeros(5, 7))), plain)
    torch.testing.assert_close(apply_rule(call, replace(FULL, region=torch.ones(5, 7))), full)


def test_each_picture_may_have_its_own_region() -> None:
    call = make_call()
    out = apply_rule(call, replace(FULL, region=torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])))
    assert torch.equal(out[2], call.plain()[2])
    torch.testing.assert_close(out[3], apply_rule(call)[3])


def test_inverted_noun_is_the_complement_and_invisible_at_zero_strength() -> None:
    call = make_call()
    assert not torch.allclose(measured(call), measured(call, replace(FULL, inverts_noun=True)))
    zero = replace(FULL, strength=0.0)
    assert torch.equal(measured(call, zero), measured(call, replace(zero, inverts_noun=True)))


def test_fixed_weight_blends_evenly() -> None:
    call = make_call()
    plain = call.plain()
    out = apply_rule(call, replace(FULL, fixed_weight=0.5))
    torch.testing.assert_close(out[[2, 3]], (plain[[2, 3]] + plain[[4, 5]]) / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_weighed_in_float32(dtype: torch.dtype) -> None:
    call = make_call(dtype)
    weights, out = measured(call), apply_rule(call)
    assert weights.dtype == torch.float32 and out.dtype == dtype
    wide = replace(call, q=call.q.double(), k=call.k.double(), v=call.v.double())
    torch.testing.assert_close(weights.double(), measured(wide), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.double(), apply_rule(wide), rtol=0, atol=4 * torch.finfo(dtype).eps * 4)


def test_autocast_does_not_narrow_the_weights() -> None:
    call = make_call(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = measured(call)
    torch.testing.assert_close(inside, measured(call))


def test_a_context_repeated_by_the_host_changes_nothing() -> None:
    call = make_call()
    tokens = PairTokens(replace(TOKENS.concept, length=77), replace(TOKENS.auxiliary, length=77))
    long = replace(call, k=call.k.repeat(1, 2, 1), v=call.v.repeat(1, 2, 1))
    torch.testing.assert_close(dbim_rule(FULL, ROWS, tokens, CPU)(long), apply_rule(call))
    assert not torch.allclose(apply_rule(long), apply_rule(call))  # without the length the maps are halved


def test_words_of_a_second_chunk_are_read_there() -> None:
    call = make_call(slots=154)
    tokens = PairTokens(TokenSet.from_places((76, 77), 80), TokenSet.from_places((1,), 80))
    assert tokens.concept.span == (79, 80) and tokens.concept.length == 154
    seen: list[Tensor] = []
    dbim_rule(FULL, ROWS, tokens, CPU, lambda layer, weights, grid: seen.append(weights))(call)
    real = [*range(1, 76), *range(78, 83)]
    words = (10 * attention_probabilities(call.image_queries, call.text_keys)[..., real]).softmax(-1)
    concept, noun = words[[2, 3]][..., [76, 77]].sum(-1), words[[4, 5]][..., [1]].sum(-1)
    torch.testing.assert_close(seen[0], branch_weights(concept, 1 - noun, 1.4))


def test_scaled_gain_is_the_reference_gain_at_the_reference_size() -> None:
    sd15 = FAMILIES["sd15"].reference_tokens
    scaled = DbimSettings(shares={}, reference_tokens=sd15)
    assert all(scaled.gain_at(layer, tokens) == 500 for layer, tokens in sd15.items())
    assert scaled.gain_at(LAYER, 256) == 2000 and DbimSettings(shares={}).gain_at(LAYER, 256) == 500
    with pytest.raises(BadModel, match="cross-attention layer"):
        scaled.gain_at(LayerId("output", 99), 64)


def test_scaled_weights_do_not_depend_on_the_size_of_flat_maps() -> None:
    scaled = DbimSettings(shares={}, reference_tokens={LAYER: 64})
    weights = [
        float(branch_weights(flat, flat, 1.4, gain=scaled.gain_at(LAYER, flat.shape[-1]))[0, 0, 0])
        for flat in (torch.zeros(1, 1, 16), torch.zeros(1, 1, 256))
    ]
    assert weights[0] == pytest.approx(weights[1])


def test_integrate_is_exact_at_both_ends() -> None:
    concept, auxiliary = torch.randn(2, 1, 5, 8, generator=torch.Generator().manual_seed(6))
    weights = torch.ones(1, 2, 5)
    assert torch.equal(integrate(concept, auxiliary, weights), concept)
    assert torch.equal(integrate(concept, auxiliary, 0 * weights), auxiliary)
    assert torch.equal(integrate(concept, auxiliary, 0 * weights, 0.0), concept)


def test_rule_is_traced_whole() -> None:
    call = make_call(torch.float32)
    rule = dbim_rule(FULL, ROWS, TOKENS, CPU)

    def layer(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return rule(AttentionCall(q, k, v, k, HEADS, GRID, LAYER))

    traced = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(call.q, call.k, call.v), rule(call))


SEVERAL = PairTokens(
    TokenSet(span=(1, 2, 4), real=(1, 2, 3, 4, 5), parts=((1, 2), (4,))),
    TokenSet(span=(1, 4), real=(1, 2, 3, 4), parts=((1,), (4,))),
)


def alone(which: int) -> PairTokens:
    """One of the several concepts by itself."""
    sides = (replace(side, span=side.parts[which], parts=()) for side in (SEVERAL.concept, SEVERAL.auxiliary))
    return PairTokens(*sides)


def weights_with(tokens: PairTokens, settings: DbimSettings = FULL) -> Tensor:
    seen: list[Tensor] = []
    dbim_rule(settings, ROWS, tokens, CPU, lambda layer, weights, grid: seen.append(weights))(make_call())
    return seen[0]


def test_of_several_concepts_every_place_goes_by_the_one_that_claims_it_most() -> None:
    first, second, both = (weights_with(tokens) for tokens in (alone(0), alone(1), SEVERAL))
    torch.testing.assert_close(both, torch.maximum(first, second))
    assert (both > first).any() and (both > second).any()


def test_a_concept_named_twice_weighs_as_once() -> None:
    once = alone(0)
    twice = PairTokens(*(replace(side, parts=(side.span, side.span)) for side in (once.concept, once.auxiliary)))
    torch.testing.assert_close(weights_with(twice), weights_with(once))


def test_a_fixed_weight_is_the_same_for_several_concepts() -> None:
    assert torch.equal(
        weights_with(SEVERAL, replace(FULL, fixed_weight=0.25)), torch.full((2, HEADS, 24), 0.25).double()
    )
