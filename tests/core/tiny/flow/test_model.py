"""The tiny MM-DiT: its parts against plain formulas, and the seam where an image prompt's rule adds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dci_core.attention.joint import BlockId, JointCall, JointRule
from dci_core.attention.rows import TokenRows
from dci_core.errors import BadModel, BadSettings, PromptTooLong
from dci_core.families.mmdit import find_mmdit
from dci_core.flux.blocks import Condition, DoubleBlock, Hook, SingleBlock
from dci_core.flux.layers import attend, rotary
from dci_core.flux.transformer import MMDiT, row_ids, start_as_identity
from dci_core.model import Text
from dci_core.tiny.flow.model import SLOTS, TINY_FLOW, FlowModel
from dci_core.tiny.tokenizer import load_tokenizer

MODEL = FlowModel.random(1)
PARAMS = TINY_FLOW
SOURCE = torch.Generator().manual_seed(2)
X, T = torch.randn(2, 8, 16, 16, generator=SOURCE), torch.tensor([0.2, 0.9])
ROWS, GRID = TokenRows.text_first(5, 4), (2, 2)
TEXT_ROWS, IMAGE_ROWS = (torch.randn(2, n, PARAMS.width, generator=SOURCE) for n in (5, 4))
DELTA = torch.randn(2, 9, PARAMS.width, generator=SOURCE)


@pytest.fixture(scope="module")
def text() -> Text:
    return MODEL.encode(["a fish in snow", "a cat at night"])


@pytest.fixture(scope="module")
def plain(text: Text) -> Tensor:
    return MODEL.velocity(X, T, text)


def condition(rule: JointRule | None = None, place: str = "attention", mask: Tensor | None = None) -> Condition:
    """What a block gets, for five text rows and four image rows."""
    hook = None if rule is None else Hook(rule, torch.ones(2), place)
    vector = torch.randn(2, PARAMS.width, generator=torch.Generator().manual_seed(3))
    return Condition(vector, rotary(row_ids(5, GRID), PARAMS), ROWS, GRID, mask, hook)


def nothing(call: JointCall) -> Tensor | None:
    return None


def test_the_velocity_has_the_latents_shape_and_reads_text_and_time(text: Text, plain: Tensor) -> None:
    assert plain.shape == X.shape
    other_text, other_time = MODEL.encode(["a star", "a heart"]), T.flip(0)
    assert not torch.allclose(MODEL.velocity(X, T, other_text), plain, atol=1e-4)
    assert not torch.allclose(MODEL.velocity(X, other_time, text), plain, atol=1e-4)


def test_rows_of_a_batch_do_not_see_each_other(text: Text, plain: Tensor) -> None:
    assert text.pooled is not None
    for row in range(2):
        alone = Text(text.hidden[row : row + 1], text.pooled[row : row + 1])
        assert torch.allclose(
            MODEL.velocity(X[row : row + 1], T[row : row + 1], alone), plain[row : row + 1], atol=1e-5
        )


def test_the_family_table_knows_the_model_s_sizes() -> None:
    family = find_mmdit(MODEL.family)
    assert (family.width, family.heads) == (PARAMS.width, PARAMS.heads) and list(family.block_ids) == MODEL.blocks


def test_pooled_is_the_first_end_mark_s_row(text: Text) -> None:
    assert text.hidden.shape == (2, SLOTS, 128) and text.pooled is not None
    place = 1 + len(load_tokenizer().encode("a fish in snow").ids)
    assert torch.equal(text.pooled[0], text.hidden[0, place])


def test_attention_is_the_naive_formula_with_turned_pairs() -> None:
    qk, v = torch.randn(1, 9, 2, 6, 32, generator=SOURCE), torch.randn(1, 9, 6, 32, generator=SOURCE)
    ids, naive = row_ids(5, GRID), torch.zeros(1, 9, 6, 32)
    angles = []
    for row in ids.tolist():
        angles.append([row[a] * 100 ** (-2 * i / w) for a, w in enumerate((8, 12, 12)) for i in range(w // 2)])
    cos, sin = torch.tensor(angles).cos(), torch.tensor(angles).sin()
    turned = torch.empty_like(qk)
    for n in range(9):
        even, odd = qk[:, n, ..., ::2], qk[:, n, ..., 1::2]
        turned[:, n, ..., ::2], turned[:, n, ..., 1::2] = even * cos[n] - odd * sin[n], even * sin[n] + odd * cos[n]
    for head in range(6):
        q, k = turned[0, :, 0, head], turned[0, :, 1, head]
        naive[0, :, head] = (q @ k.T / 32**0.5).softmax(-1) @ v[0, :, head]
    assert torch.allclose(attend(qk, v, rotary(ids, PARAMS), None), naive.flatten(2), atol=1e-5)


def test_text_rows_are_not_turned_and_image_rows_are_by_their_place() -> None:
    turns = rotary(row_ids(5, (2, 3)), PARAMS)
    assert torch.equal(turns[:5], torch.ones(5, 16, dtype=torch.complex64))
    assert row_ids(1, (2, 3)).tolist() == [[0, 0, 0], *([0, y, x] for y in range(2) for x in range(3))]
    assert len({tuple(row.tolist()) for row in torch.view_as_real(turns[5:]).flatten(1)}) == 6


def test_a_hidden_text_row_is_not_read() -> None:
    text, mask = MODEL.encode(["a fish in snow", "a cat at night"]), torch.ones(2, SLOTS, dtype=torch.bool)
    mask[:, 9:] = False
    other = text.hidden.clone()
    other[:, 9:] += 1
    with_mask = [MODEL.mmdit(X, T, hidden, text.pooled, mask=mask) for hidden in (text.hidden, other)]
    without = [MODEL.mmdit(X, T, hidden, text.pooled) for hidden in (text.hidden, other)]
    assert torch.equal(*with_mask) and not torch.allclose(*without, atol=1e-4)


@pytest.mark.parametrize("place", ["attention", "stream"])
def test_a_rule_that_adds_nothing_changes_no_bit_and_one_that_adds_does(place: str, text: Text, plain: Tensor) -> None:
    def adds(call: JointCall) -> Tensor:
        return torch.linspace(-1, 1, PARAMS.width).expand(len(call.q), call.q.shape[2], -1)

    assert torch.equal(MODEL.velocity(X, T, text, nothing, place=place), plain)
    assert not torch.allclose(MODEL.velocity(X, T, text, adds, place=place), plain, atol=1e-3)


@pytest.mark.parametrize(("place", "text_count"), [("attention", SLOTS), ("stream", 0)])
def test_the_rule_is_asked_once_in_every_block(place: str, text_count: int, text: Text) -> None:
    calls, reads = list[JointCall](), torch.tensor([1.0, 0.0])
    MODEL.velocity(X, T, text, lambda call: calls.append(call), reads=reads, place=place)  # append gives None
    assert [call.block for call in calls] == MODEL.blocks
    assert MODEL.blocks == [*(BlockId("double", i) for i in range(2)), *(BlockId("single", i) for i in range(4))]
    for call in calls:
        assert call.q.shape == (2, 6, text_count + 64, 32) and call.grid == (8, 8)
        assert call.rows == TokenRows.text_first(text_count, 64) and call.reads is reads
        assert torch.allclose(call.q.square().mean(-1), torch.ones(()), atol=1e-3)  # normed; scales are one here


def test_queries_come_before_rotary_in_every_row() -> None:
    block, seen = SingleBlock(PARAMS, 0), list[Tensor]()
    same = IMAGE_ROWS[:, :1].expand(-1, 9, -1)
    block(same, condition(lambda call: seen.append(call.q)))
    assert torch.allclose(seen[0], seen[0][:, :, :1].expand_as(seen[0]), atol=1e-6)


def test_a_single_block_projects_and_gates_what_the_rule_adds() -> None:
    block, x = SingleBlock(PARAMS, 0), torch.cat((TEXT_ROWS, IMAGE_ROWS), dim=1)
    change = block(x, condition(lambda call: DELTA)) - block(x, condition())
    gate = block.modulation(condition().vector)[2]
    assert torch.allclose(change, gate * (DELTA @ block.linear2.weight[:, : PARAMS.width].T), atol=1e-5)


def test_a_double_block_keeps_text_and_image_additions_apart() -> None:
    block = DoubleBlock(PARAMS, 0)
    image, text = block(IMAGE_ROWS, TEXT_ROWS, condition())
    for rows, changed in ((ROWS.image, "image"), (ROWS.text, "text")):
        delta = torch.zeros_like(DELTA)
        delta[:, rows] = DELTA[:, rows]
        moved_image, moved_text = block(IMAGE_ROWS, TEXT_ROWS, condition(lambda call, delta=delta: delta))
        assert torch.equal(moved_image, image) == (changed == "text")
        assert torch.equal(moved_text, text) == (changed == "image")


@pytest.mark.parametrize("kind", ["double", "single"])
def test_the_place_stream_adds_to_the_image_rows_after_the_block(kind: str) -> None:
    delta = DELTA[:, :4]

    def run(at: Condition) -> Tensor:
        if kind == "double":
            torch.manual_seed(4)
            image, text = DoubleBlock(PARAMS, 0)(IMAGE_ROWS, TEXT_ROWS, at)
            return torch.cat((text, image), dim=1)
        torch.manual_seed(4)
        return SingleBlock(PARAMS, 0)(torch.cat((TEXT_ROWS, IMAGE_ROWS), dim=1), at)

    change = run(condition(lambda call: delta, "stream")) - run(condition())
    assert not change[:, ROWS.text].any() and torch.allclose(change[:, ROWS.image], delta, atol=1e-5)


def test_training_begins_with_closed_blocks_and_no_velocity() -> None:
    model, text = MMDiT(TINY_FLOW), MODEL.encode(["a fish", "a cat"])
    assert text.pooled is not None and model(X, T, text.hidden, text.pooled).any()
    start_as_identity(model)
    assert not model(X, T, text.hidden, text.pooled).any()


def test_what_the_model_cannot_use_is_refused(text: Text) -> None:
    with pytest.raises(PromptTooLong, match="at most 30 fit"):
        MODEL.encode(["fish " * 31])
    with pytest.raises(BadSettings, match="attention, stream"):
        MODEL.velocity(X, T, text, nothing, place="everywhere")
    with pytest.raises(BadModel, match="pooled"):
        MODEL.velocity(X, T, Text(text.hidden))
