"""The seam: one block's attention, cross or joint, in the words that every method asks with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall, BlockAttention, plain_attend
from dci_core.attention.joint import BlockId, JointCall
from dci_core.attention.layers import LayerId
from dci_core.attention.rows import TokenRows
from dci_core.attention.spans import attention_probabilities
from dci_core.dci.dbim import DbimSettings, branch_weights, dbim_rule
from dci_core.dci.maps import AuxiliaryView, BranchRows, keeping_rule
from dci_core.text.tokens import PairTokens, TokenSet

LAYER = LayerId("input", 1)
HEADS, DIM, GRID, TEXT = 2, 4, (2, 3), 5
IMAGE = GRID[0] * GRID[1]
ROWS = [TokenRows.text_first(TEXT, IMAGE), TokenRows.image_first(TEXT, IMAGE)]
WORDS = TokenSet(real=(1, 2, 3), span=(2,), length=TEXT)
TOKENS = PairTokens(WORDS, WORDS)


def joint_call(rows: TokenRows, batch: int = 2, seed: int = 0) -> AttentionCall:
    """Text and image rows in one sequence."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, TEXT + IMAGE, HEADS * DIM, generator=generator) for _ in range(3))
    return AttentionCall(q, k, v, v[:, rows.text], HEADS, GRID, LAYER, rows=rows)


def by_head(x: Tensor, head: int) -> Tensor:
    return x[..., head * DIM : (head + 1) * DIM]


def naive_text(call: AttentionCall, row: int, head: int) -> tuple[Tensor, Tensor]:
    """(share m [n] of the image rows' attention on the text, what they read of it t [n d]) of one head."""
    assert call.rows is not None
    q, k, v = (by_head(x[row], head) for x in (call.q, call.k, call.v))
    odds = (q[call.rows.image] @ k.T / DIM**0.5).softmax(-1)[:, call.rows.text]
    return odds.sum(-1), odds @ v[call.rows.text] / odds.sum(-1, keepdim=True)


@pytest.mark.parametrize("rows", ROWS, ids=["text first", "image first"])
def test_a_joint_call_tells_its_text_part_and_how_much_of_it_is_read(rows: TokenRows) -> None:
    call = joint_call(rows)
    share, part = call.text_share(), call.text_part(call.plain())
    assert share is not None and share.shape == (2, HEADS, IMAGE) and share.min() > 0 and share.max() < 1
    for row in range(2):
        for head in range(HEADS):
            m, t = naive_text(call, row, head)
            torch.testing.assert_close(share[row, head], m)
            torch.testing.assert_close(by_head(part[row], head), t)


def test_in_cross_attention_everything_is_text() -> None:
    q, k = torch.randn(1, IMAGE, HEADS * DIM), torch.randn(1, TEXT, HEADS * DIM)
    call = AttentionCall(q, k, k, k, HEADS, GRID, LAYER)
    out = call.plain()
    assert call.text_share() is None and call.text_part(out) is out
    assert call.image_queries.shape == (1, HEADS, IMAGE, DIM) and call.text_keys.shape == (1, HEADS, TEXT, DIM)


def test_both_kinds_of_calls_answer_the_same_questions() -> None:
    rows = ROWS[0]
    call = joint_call(rows)
    q, k = (x.unflatten(-1, (HEADS, DIM)).transpose(1, 2) for x in (call.q, call.k))
    shown = JointCall(q, rows, BlockId("double", 0), GRID, torch.ones(2), k[:, :, rows.text])

    def looks(block: BlockAttention) -> Tensor:
        assert block.text_keys is not None and block.grid == GRID
        return attention_probabilities(block.image_queries, block.text_keys)

    assert torch.equal(looks(call), looks(shown))


@pytest.mark.parametrize("rows", ROWS, ids=["text first", "image first"])
def test_dbim_blends_the_text_part_at_the_concepts_own_mass(rows: TokenRows) -> None:
    call = joint_call(rows)
    plain, weights = call.plain(), []
    settings = DbimSettings(shares={LAYER: 1.0}, strength=1.4)
    pair = BranchRows((0,), (1,))
    rule = dbim_rule(settings, pair, TOKENS, torch.device("cpu"), lambda _, w, grid: weights.append(w))
    out = rule(call)
    assert torch.equal(out[1], plain[1]) and torch.equal(out[0, rows.text], plain[0, rows.text])
    for head in range(HEADS):
        (m, t), (_, other) = naive_text(call, 0, head), naive_text(call, 1, head)
        w = weights[0][0, head]
        expected = by_head(plain[0, rows.image], head) + ((1 - w) * m)[:, None] * (other - t)
        torch.testing.assert_close(by_head(out[0, rows.image], head), expected)
    assert not torch.allclose(out[0, rows.image], plain[0, rows.image], atol=1e-3)


def test_joint_maps_are_those_of_the_text_alone() -> None:
    call = joint_call(ROWS[0])
    seen: list[Tensor] = []
    settings = DbimSettings(shares={LAYER: 1.0})
    dbim_rule(settings, BranchRows((0,), (1,)), TOKENS, torch.device("cpu"), lambda *a: seen.append(a[1]))(call)
    q, k = call.q[:, call.image], call.k[:, call.text]
    alone = AttentionCall(q, k, k, k, HEADS, GRID, LAYER)
    dbim_rule(settings, BranchRows((0,), (1,)), TOKENS, torch.device("cpu"), lambda *a: seen.append(a[1]))(alone)
    assert torch.equal(seen[0], seen[1])
    even = branch_weights(torch.ones(1, HEADS, IMAGE), torch.ones(1, HEADS, IMAGE), 1.0)
    assert not torch.allclose(seen[0], even, atol=1e-3)


def test_halves_of_a_joint_pair_give_what_one_call_gives() -> None:
    rows, cpu = ROWS[0], torch.device("cpu")
    call, settings = joint_call(rows), DbimSettings(shares={LAYER: 1.0})
    whole = dbim_rule(settings, BranchRows((0,), (1,)), TOKENS, cpu)(call)
    keep: dict[LayerId, AuxiliaryView] = {}
    other, mine = (call.of_rows(lambda x, i=i: x[i : i + 1]) for i in (1, 0))
    keeping_rule(keep, settings.shares, (0,), WORDS, settings.token_sharpness, cpu)(other)
    half = dbim_rule(settings, BranchRows((0,), (0,)), TOKENS, cpu, kept=keep)(mine)
    torch.testing.assert_close(half[0], whole[0])


def test_a_share_of_zero_leaves_a_joint_call_alone() -> None:
    call = joint_call(ROWS[1])
    settings = DbimSettings(shares={LAYER: 1.0}, region=torch.zeros(2, 3))
    out = dbim_rule(settings, BranchRows((0,), (1,)), TOKENS, torch.device("cpu"))(call)
    assert torch.equal(out, plain_attend(call.q, call.k, call.v, HEADS))
    assert torch.equal(out, replace(call, rows=None).plain())


def biased(call: AttentionCall, row: int = 0, slot: int = 2) -> AttentionCall:
    """The call in which one row hears one word in half of its places only."""
    bias = torch.zeros(call.q.shape[0], IMAGE, TEXT)
    bias[row, : IMAGE // 2, slot] = -9.0
    return replace(call, bias=bias)


@pytest.mark.parametrize("rows", [None, *ROWS], ids=["cross", "text first", "image first"])
def test_a_bias_is_added_to_the_logits_of_the_words(rows: TokenRows | None) -> None:
    call = joint_call(ROWS[0] if rows is None else rows)
    if rows is None:
        call = replace(call, q=call.q[:, :IMAGE], k=call.k[:, :TEXT], v=call.v[:, :TEXT], rows=None)
    heard = biased(call)
    out, bias = heard.plain(), heard.bias
    assert bias is not None
    for head in range(HEADS):
        q, k, v = (by_head(x[0], head) for x in (call.q[:, call.image], call.k, call.v))
        logits = q @ k.T / DIM**0.5
        logits[:, call.text] += bias[0]
        torch.testing.assert_close(by_head(out[0, call.image], head), logits.softmax(-1) @ v)
        share = heard.text_share()
        if share is not None:
            odds = logits.softmax(-1)[:, call.text]
            torch.testing.assert_close(share[0, head], odds.sum(-1))
            part = by_head(heard.text_part(out)[0], head)
            torch.testing.assert_close(part, odds @ v[call.text] / odds.sum(-1, keepdim=True))
    assert not torch.allclose(out[0], call.plain()[0], atol=1e-3)
    assert torch.equal(out[1], call.plain()[1])


def test_a_bias_keeps_what_another_pack_adds_to_the_attention() -> None:
    call = joint_call(ROWS[0])
    added = replace(call, attend=lambda q, k, v, heads: plain_attend(q, k, v, heads) + 5)
    torch.testing.assert_close(biased(added).plain(), biased(call).plain() + 5)


def test_a_bias_goes_with_its_rows() -> None:
    call = biased(joint_call(ROWS[0]), row=1)
    alone = call.of_rows(lambda x: x[1:])
    torch.testing.assert_close(alone.plain()[0], call.plain()[1])
