"""The decoupled rule on a joint-attention toy: who reads the reference, where, and how strongly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from dci_core.attention.joint import BlockId, JointCall
from dci_core.attention.rows import TokenRows
from dci_core.dynaip.decoupled import BlockKV, image_prompt_rule
from dci_core.dynaip.subject import Subject
from dci_core.errors import BadModel, BadSettings

from .joint_model import GRID, IMAGES, TEXTS, TOY, JointModel, Run, draw_inputs

FIRST, LAST_DOUBLE, FIRST_SINGLE = BlockId("double", 0), BlockId("double", 1), BlockId("single", 0)
SWEEP = (0.0, 0.25, 0.5, 0.75, 1.0)


def make_kvs(seed: int = 5, batch: int = 1, tokens: int = 3, own_text: bool = True) -> dict[BlockId, BlockKV]:
    g = torch.Generator().manual_seed(seed)

    def pair() -> tuple[Tensor, Tensor]:
        k, v = torch.randn(2, batch, TOY.heads, tokens, TOY.head_dim, generator=g, dtype=torch.float64)
        return k, v

    made = {block: (pair(), pair()) for block in TOY.block_ids}
    is_own = {block: own_text and block.stream == "double" for block in made}
    return {block: BlockKV(image, text if is_own[block] else image) for block, (image, text) in made.items()}


def run(*subjects: Subject, kvs: list[Mapping[BlockId, BlockKV]] | None = None, **how: object) -> Run:
    kvs = [make_kvs()] * len(subjects) if kvs is None else kvs
    image, text = draw_inputs()
    return JointModel()(image, text, image_prompt_rule(kvs, subjects) if subjects else None, **how)


def half_region() -> Tensor:
    region = torch.zeros(GRID)
    region[:, :3] = 1
    return region


def make_call(block: BlockId = FIRST_SINGLE, *, text_first: bool = True, reads: Tensor | None = None) -> JointCall:
    make = TokenRows.text_first if text_first else TokenRows.image_first
    g = torch.Generator().manual_seed(9)
    q = torch.randn(2, TOY.heads, IMAGES + TEXTS, TOY.head_dim, generator=g, dtype=torch.float64)
    return JointCall(q, make(TEXTS, IMAGES), block, GRID, torch.ones(2) if reads is None else reads)


def naive(call: JointCall, kv: BlockKV, gate: Tensor, text_gate: float) -> Tensor:
    """gate * softmax(q K^T / sqrt(d)) V, row by row as the formula says."""
    delta = torch.zeros(2, call.q.shape[2], TOY.heads * TOY.head_dim, dtype=torch.float64)
    for rows, (k, v), scale in ((call.rows.image, kv.image, gate), (call.rows.text, kv.text, text_gate)):
        for b in range(2):
            for head in range(TOY.heads):
                weights = (call.q[b, head, rows] @ k[0, head].T / TOY.head_dim**0.5).softmax(-1)
                columns = slice(head * TOY.head_dim, (head + 1) * TOY.head_dim)
                delta[b, rows, columns] = (weights @ v[0, head]) * (
                    scale if isinstance(scale, float) else scale[:, None]
                )
    return delta


@pytest.mark.parametrize("text_first", [True, False])
@pytest.mark.parametrize("block", [FIRST, FIRST_SINGLE])
def test_the_rule_is_the_naive_formula(block: BlockId, text_first: bool) -> None:
    call, kvs = make_call(block, text_first=text_first), make_kvs()
    subject = Subject(scale=0.8, text_scale=0.3, region=half_region())
    delta = image_prompt_rule([kvs], [subject])(call)
    assert delta is not None
    torch.testing.assert_close(delta, naive(call, kvs[block], 0.8 * half_region().flatten().double(), 0.3))


@pytest.mark.parametrize("text_first", [True, False])
def test_text_scale_zero_leaves_the_direct_update_of_text_rows_exactly_zero_in_every_block(text_first: bool) -> None:
    for block in TOY.block_ids:
        call = make_call(block, text_first=text_first)
        closed, open_ = (image_prompt_rule([make_kvs()], [Subject(text_scale=scale)])(call) for scale in (0.0, 0.5))
        assert closed is not None and open_ is not None
        assert torch.count_nonzero(closed[:, call.rows.text]) == 0
        assert (open_[:, call.rows.text] != 0).all()


@pytest.mark.parametrize("text_first", [True, False])
def test_image_rows_are_identical_for_any_text_scale_in_the_first_block_and_differ_later(text_first: bool) -> None:
    runs = [run(Subject(text_scale=scale), text_first=text_first) for scale in SWEEP]
    first, *others = [each.attention[FIRST][:, each.rows.image] for each in runs]
    assert all(torch.equal(first, other) for other in others)
    for block in (LAST_DOUBLE, *TOY.block_ids[2:]):
        later = [each.attention[block][:, each.rows.image] for each in runs]
        assert not any(torch.equal(later[0], other) for other in later[1:])


def test_the_text_scale_is_a_continuous_dial() -> None:
    call = make_call()
    deltas = [image_prompt_rule([make_kvs()], [Subject(text_scale=scale)])(call)[:, call.rows.text] for scale in SWEEP]
    for scale, delta in zip(SWEEP, deltas, strict=True):
        torch.testing.assert_close(delta, scale * deltas[-1])


def test_both_token_orders_give_the_same_picture() -> None:
    how = [Subject(text_scale=0.4, region=half_region())]
    torch.testing.assert_close(run(*how).image, run(*how, text_first=False).image)
    assert not torch.allclose(run(*how).image, run().image)


def test_scale_and_text_scale_zero_compute_nothing() -> None:
    call = make_call()
    assert image_prompt_rule([make_kvs()], [Subject(scale=0.0)])(call) is None
    assert image_prompt_rule([make_kvs()], [Subject(scale=0.0, text_scale=0.1)])(call) is not None
    assert torch.equal(run(Subject(scale=0.0)).last, run().last)
    assert not torch.equal(run(Subject()).last, run().last)


def test_a_block_outside_the_subset_computes_nothing() -> None:
    only_single = Subject(blocks=frozenset(TOY.block_ids[2:]))
    rule = image_prompt_rule([make_kvs()], [only_single])
    assert [rule(make_call(block)) is None for block in TOY.block_ids] == [True, True, False, False, False, False]


def test_a_block_that_the_adapter_lacks_computes_nothing() -> None:
    rule = image_prompt_rule([{FIRST: make_kvs()[FIRST]}], [Subject()])
    assert [rule(make_call(block)) is None for block in TOY.block_ids] == [False, True, True, True, True, True]


def test_the_schedule_opens_and_closes_the_rule() -> None:
    def is_read(percent: float, subject: Subject) -> bool:
        return image_prompt_rule([make_kvs()], [subject], percent=percent)(make_call()) is not None

    middle = Subject(start=0.2, end=0.6)
    assert [is_read(p, middle) for p in (0.0, 0.2, 0.5, 0.6, 1.0)] == [False, True, True, False, False]
    assert [is_read(p, Subject()) for p in (0.0, 1.0)] == [True, True]


def test_rows_that_do_not_read_stay_the_base_model_bit_for_bit() -> None:
    mixed, plain, all_read = (run(Subject(), reads=torch.tensor([0.0, 1.0])), run(), run(Subject()))
    assert torch.equal(mixed.last[0], plain.last[0])
    assert not torch.equal(mixed.last[1], plain.last[1])
    torch.testing.assert_close(mixed.last[1], all_read.last[1])
    assert image_prompt_rule([make_kvs()], [Subject()])(make_call(reads=torch.zeros(2))) is None


def test_one_reference_per_picture_is_read_by_its_own_picture() -> None:
    call, both = make_call(), make_kvs(batch=2)
    delta = image_prompt_rule([both], [Subject(text_scale=1.0)])(call)
    for b in range(2):
        kv = both[call.block].image
        alone = {call.block: BlockKV(*[(kv[0][b : b + 1], kv[1][b : b + 1])] * 2)}
        torch.testing.assert_close(delta[b], image_prompt_rule([alone], [Subject(text_scale=1.0)])(call)[b])


def test_the_region_gate_is_zero_outside_the_mask_and_one_inside() -> None:
    call, region = make_call(), half_region()
    inside = region.flatten().bool()
    masked, whole = (
        image_prompt_rule([make_kvs()], [Subject(region=r)])(call)[:, call.rows.image] for r in (region, None)
    )
    assert torch.count_nonzero(masked[:, ~inside]) == 0
    assert torch.equal(masked[:, inside], whole[:, inside])
    assert (whole[:, ~inside] != 0).all()


@pytest.mark.parametrize("text_scale", [0.0, 1.0])
def test_two_identical_subjects_with_complementary_masks_equal_one_unmasked(text_scale: float) -> None:
    region = torch.rand(8 * GRID[0], 5 * GRID[1], generator=torch.Generator().manual_seed(2))
    pair = run(*[Subject(region=r, text_scale=text_scale) for r in (region, 1 - region)])
    torch.testing.assert_close(pair.last, run(Subject(text_scale=text_scale)).last, rtol=1e-6, atol=1e-6)
    one = run(Subject(region=region, text_scale=text_scale))
    assert not torch.allclose(pair.last, one.last, rtol=1e-3, atol=1e-3)


def test_subjects_that_overlap_share_and_have_a_softmax_each() -> None:
    call, kvs = make_call(), [make_kvs(5), make_kvs(6)]
    both = image_prompt_rule(kvs, [Subject(), Subject(scale=0.5)])(call)
    apart = [image_prompt_rule([kv], [Subject(scale=s)])(call) for kv, s in zip(kvs, (1.0, 0.5), strict=True)]
    torch.testing.assert_close(both, (apart[0] + apart[1]) / 2)


def test_a_block_whose_text_rows_never_read_ignores_the_text_scale() -> None:
    call, kv = make_call(), make_kvs()[FIRST_SINGLE]
    image_only = {FIRST_SINGLE: BlockKV(kv.image)}
    open_, closed = (image_prompt_rule([image_only], [Subject(text_scale=scale)])(call) for scale in (1.0, 0.0))
    assert torch.equal(open_, closed)
    assert image_prompt_rule([image_only], [Subject(scale=0.0, text_scale=1.0)])(call) is None


def test_rows_behind_the_picture_are_left_alone() -> None:
    call = make_call()
    longer = JointCall(torch.cat([call.q, call.q], dim=2), call.rows, call.block, call.grid, call.reads)
    delta = image_prompt_rule([make_kvs()], [Subject(text_scale=1.0)])(longer)
    assert torch.count_nonzero(delta[:, IMAGES + TEXTS :]) == 0
    torch.testing.assert_close(
        delta[:, : IMAGES + TEXTS], image_prompt_rule([make_kvs()], [Subject(text_scale=1.0)])(call)
    )


def test_a_call_with_image_rows_alone_is_the_image_part() -> None:
    call = make_call(FIRST)
    alone = JointCall(call.q[:, :, call.rows.image], TokenRows.image_only(IMAGES), FIRST, GRID, call.reads)
    rule = image_prompt_rule([make_kvs()], [Subject(text_scale=1.0)])
    torch.testing.assert_close(rule(alone), rule(call)[:, call.rows.image])


def test_the_delta_has_the_dtype_of_the_queries() -> None:
    call = make_call()
    half = JointCall(call.q.bfloat16(), call.rows, call.block, call.grid, call.reads)
    delta = image_prompt_rule([make_kvs()], [Subject(region=half_region())])(half)
    assert delta.dtype == torch.bfloat16
    assert (delta != 0).any()


def test_an_observer_sees_where_each_subject_is_read() -> None:
    seen: dict[int, Tensor] = {}
    rule = image_prompt_rule(
        [make_kvs()] * 2,
        [Subject(region=half_region()), Subject(region=1 - half_region())],
        observe=lambda block, subject, strength, grid: seen.update({subject: strength}),
    )
    rule(make_call())
    inside = half_region().flatten().bool()
    assert torch.equal(seen[0] > 0, inside.expand(2, -1))
    assert torch.equal(seen[1] > 0, ~inside.expand(2, -1))


def test_zero_subjects_get_a_sentence() -> None:
    with pytest.raises(BadSettings, match="0 subjects"):
        image_prompt_rule([], [])


def test_references_of_another_width_and_grids_that_do_not_fit_get_a_sentence() -> None:
    rule = image_prompt_rule([make_kvs()], [Subject()])
    call = make_call()
    with pytest.raises(BadModel, match="6 heads 33 wide"):
        rule(JointCall(torch.cat([call.q, call.q[..., :1]], -1), call.rows, call.block, call.grid, call.reads))
    with pytest.raises(BadModel, match="grid"):
        rule(JointCall(call.q, call.rows, call.block, (5, 5), call.reads))
