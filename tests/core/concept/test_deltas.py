"""Changes of keys and values: their value, their gradient, their compression."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dci_core.attention.call import AttentionCall
from dci_core.attention.layers import LayerId
from dci_core.concept.compress import compress, compress_all, relative_error
from dci_core.concept.deltas import Delta, KVDeltas, LayerDelta, changed
from dci_core.errors import BadModel
from dci_core.families.weight_names import weight_key

from ..toy_model import KV, LAYERS, WIDTH, ToyModel

MODEL = ToyModel.random()
SOURCE = torch.Generator().manual_seed(5)


def deltas(rank: int | None, filled: bool = True) -> KVDeltas:
    made = KVDeltas(MODEL.kv_shapes(), rank, SOURCE, torch.device("cpu"))
    if filled:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=SOURCE)
    return made


def call(dtype: torch.dtype = torch.float32) -> AttentionCall:
    q, context = torch.randn(2, 9, KV, generator=SOURCE), torch.randn(2, 5, WIDTH, generator=SOURCE)
    k, v = (context @ MODEL.weights[weight_key(LAYERS[0], part)].T for part in "kv")
    return AttentionCall(*(x.to(dtype) for x in (q, k, v, context)), heads=2, grid=(3, 3), layer=LAYERS[0])


@pytest.mark.parametrize("rank", [None, 3])
def test_new_deltas_change_nothing_and_filled_ones_do(rank: int | None) -> None:
    one = call()
    assert torch.equal(deltas(rank, filled=False).rule()(one), one.plain())
    assert not torch.allclose(deltas(rank).rule()(one), one.plain(), atol=1e-2)


@pytest.mark.parametrize("rank", [None, 3])
def test_the_rule_equals_patched_weights(rank: int | None) -> None:
    learned, one = deltas(rank), call()
    delta = learned.of_layer(LAYERS[0])
    weights = [MODEL.weights[weight_key(LAYERS[0], part)] + d.dense() for part, d in zip("kv", delta, strict=True)]
    patched = replace(one, k=one.context @ weights[0].T, v=one.context @ weights[1].T)
    assert torch.allclose(learned.rule()(one), patched.plain(), atol=1e-5)


def test_holding_the_begin_mark_leaves_the_forward_pass_and_cuts_its_gradient() -> None:
    delta, one = deltas(None).of_layer(LAYERS[0]), call()
    held, free = changed(one, delta, hold_first=True), changed(one, delta)
    assert torch.equal(held.k, free.k) and torch.equal(held.v, free.v)
    for held_part, free_part, change in ((held.k, free.k, delta.k), (held.v, free.v, delta.v)):
        (none,) = torch.autograd.grad(held_part[:, :1].sum(), change.up, retain_graph=True)
        (some,) = torch.autograd.grad(free_part[:, :1].sum(), change.up, retain_graph=True)
        assert not none.any() and some.any()
        (rest,) = torch.autograd.grad(held_part.sum(), change.up)
        assert rest.any()


def test_another_rule_may_follow() -> None:
    learned, one = deltas(2), call()
    seen = learned.rule(then=lambda c: c.k)(one)
    assert torch.equal(seen, changed(one, learned.of_layer(LAYERS[0])).k)


def test_half_precision_models_keep_their_type_and_the_deltas_stay_fp32() -> None:
    learned, one = deltas(2), call(torch.float16)
    assert learned.rule()(one).dtype == torch.float16
    assert {p.dtype for p in learned.parameters()} == {torch.float32}


def test_a_layer_without_width_is_named() -> None:
    with pytest.raises(BadModel, match="output"):
        deltas(None).rule()(replace(call(), layer=LayerId("output", 9)))


def test_compression_finds_the_factors_that_are_there() -> None:
    low = Delta(torch.randn(12, 3, generator=SOURCE), torch.randn(3, 20, generator=SOURCE))
    back = compress(Delta(low.dense()), 3)
    assert back.shape == (12, 20) and torch.allclose(back.dense(), low.dense(), atol=1e-4)
    assert compress(low, 4) is low


def test_the_reported_error_is_what_the_cut_singular_values_say() -> None:
    whole = {LAYERS[0]: LayerDelta(*(Delta(torch.randn(8, 16, generator=SOURCE)) for _ in "kv"))}
    kept = compress_all(whole, 2)
    values = [torch.linalg.svdvals(d.dense()) for d in whole[LAYERS[0]]]
    expected = (sum((s[2:] ** 2).sum() for s in values) / sum((s**2).sum() for s in values)) ** 0.5
    assert relative_error(kept, whole) == pytest.approx(float(expected), rel=1e-4)
    assert relative_error(compress_all(whole, 8), whole) < 1e-5
    zero = {LAYERS[0]: LayerDelta(Delta(torch.zeros(8, 16)), Delta(torch.zeros(8, 16)))}
    assert relative_error(compress_all(zero, 2), zero) == 0
