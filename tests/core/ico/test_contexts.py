"""Rows of the text encoder in training: slots, positions, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dci_core.errors import BadSettings, PromptTooLong, SpanNotFound
from dci_core.ico.contexts import CONTEXT_STD, ContextWords, LearnedText, context_start, lay_out, token_start
from dci_core.text.captions import read_caption

from ..toy_model import BEGIN, END, LENGTH, RARE, ToyEncoder, ToyModel


@dataclass(frozen=True)
class IdsAlone(ToyEncoder):
    """A second stream of ids, without a begin mark and without vectors."""

    begin: int = 0
    reserved: tuple[int, ...] = (900, 899)
    width: int = 1

    def embed(self, ids: Tensor) -> Tensor:
        return ids.float()[..., None]

    def frame(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([*ids, END] + [0] * (self.length - 1 - len(ids)))


MODEL = ToyModel.random()
ENCODER = MODEL.encoders["clip_l"]
PLAIN = "{concept}"


def learned(words: ContextWords, caption: str = PLAIN, images: int = 2) -> tuple[LearnedText, dict]:
    layout = {"clip_l": lay_out(ENCODER, read_caption(caption), "blue fish", 2, words)}
    source = torch.Generator().manual_seed(0)
    return LearnedText(MODEL.encoders, [layout] * images, RARE, 2, words, source), layout


def row(text: LearnedText, layout: dict, image: int = 0) -> Tensor:
    return text.rows([image], [layout])[0]["clip_l"][0]


def words_row(text: str) -> Tensor:
    return ENCODER.embed(ENCODER.frame(ENCODER.tokenize(text)))


def test_rows_stand_in_the_order_of_the_paper() -> None:
    text, layout = learned(ContextWords("photo of a", "."))
    expected = words_row("photo of a x y blue fish .")
    expected[4:6] = ENCODER.embed(torch.tensor([501, 500]))  # the last token starts from the first rare entry
    assert torch.equal(row(text, layout), expected)
    ends = text.rows([0], [layout])[1]["clip_l"]
    assert ends.tolist() == [9] and torch.equal(expected[9], ENCODER.embed(torch.tensor(END)))
    assert torch.equal(expected[0], ENCODER.embed(torch.tensor(BEGIN))) and len(expected) == LENGTH


def test_words_of_a_caption_stand_between_context_and_concept() -> None:
    text, layout = learned(ContextWords("A", "."), "my {concept} in deep snow")
    expected = words_row("A my x y blue fish in deep snow .")
    expected[3:5] = ENCODER.embed(torch.tensor([501, 500]))
    assert torch.equal(row(text, layout), expected)


def test_without_contexts_the_row_is_the_filled_template() -> None:
    text, layout = learned(ContextWords(0, 0), "photo of a {concept} .")
    expected = words_row("photo of a x y blue fish .")
    expected[4:6] = ENCODER.embed(torch.tensor([501, 500]))
    assert torch.equal(row(text, layout), expected)
    assert [name for name, _ in text.named_parameters()] == ["tokens.clip_l"]


def test_corrected_tokens_carry_their_own_positions_and_reference_tokens_those_of_the_bare_caption() -> None:
    places = ENCODER.positions()
    rare = ENCODER.embed(torch.tensor([501, 500]))
    for positions, first in (("corrected", 4), ("reference", 1)):
        text, layout = learned(ContextWords("photo of a", ".", positions))
        summed = row(text, layout) + places
        assert torch.allclose(summed[4:6], rare + places[first : first + 2], atol=1e-6)


def test_the_suffix_of_the_reference_starts_with_the_positions_of_its_own_short_text() -> None:
    places = ENCODER.positions()
    dot = words_row(". .")[1:3]
    for positions, first in (("corrected", 8), ("reference", 1)):
        text, layout = learned(ContextWords("photo of a", ". .", positions))
        summed = row(text, layout) + places
        assert torch.allclose(summed[8:10], dot + places[first : first + 2], atol=1e-6)
        assert torch.equal(text.prefix["clip_l"][0], words_row("photo of a")[1:4])


def test_both_positions_give_the_same_output_without_a_prefix_and_another_with_one() -> None:
    for prefix, same in ((0, True), ("A", False)):
        corrected, layout = learned(ContextWords(prefix, ".", "corrected"))
        reference, other = learned(ContextWords(prefix, ".", "reference"))
        reference.load_state_dict(corrected.state_dict())  # the suffix is free: only its start differs
        outputs = [MODEL.encode(*t.rows([0], [at])).hidden for t, at in ((corrected, layout), (reference, other))]
        assert torch.equal(*outputs) is same


def test_contexts_are_private_to_each_picture_and_tokens_are_shared() -> None:
    text, layout = learned(ContextWords("A", "."))
    with torch.no_grad():
        text.prefix["clip_l"][1] += 1
    first, second = row(text, layout, 0), row(text, layout, 1)
    assert (first != second).any(-1).nonzero().flatten().tolist() == [1]


def test_only_prefix_tokens_and_suffix_receive_a_gradient() -> None:
    text, layout = learned(ContextWords("photo of a", "."), "my {concept} here")
    rows = row(text, layout)
    grads = torch.autograd.grad(rows.pow(2).sum(), [*text.parameters()])
    assert all(g.any() for g in grads) and not ENCODER.table.requires_grad
    sizes = {name: tuple(p.shape) for name, p in text.named_parameters()}
    assert sizes == {"tokens.clip_l": (2, 16), "prefix.clip_l": (2, 3, 16), "suffix.clip_l": (2, 1, 16)}
    assert not grads[1][1].any()  # the other picture's context


def test_a_trained_table_keeps_its_gradient_out() -> None:
    table = ENCODER.table.clone().requires_grad_()
    encoder = type(ENCODER)(table, ENCODER.places)
    layout = lay_out(encoder, read_caption(PLAIN), "fish", 1, ContextWords())
    assert not layout.rows.requires_grad


def test_contexts_without_words_start_small_and_differ_by_picture() -> None:
    source = torch.Generator().manual_seed(0)
    rows = context_start(ENCODER, 20, slice(1, 21), "corrected", source)
    assert rows.std().item() == pytest.approx(CONTEXT_STD, rel=0.1)
    text, _ = learned(ContextWords(4, 2))
    assert not torch.equal(text.prefix["clip_l"][0], text.prefix["clip_l"][1])
    reference = context_start(ENCODER, 2, slice(5, 7), "reference", source)
    assert (reference + ENCODER.positions()[5:7]).abs().max() < 6 * CONTEXT_STD  # no position on top


def test_bad_words_are_refused() -> None:
    with pytest.raises(SpanNotFound, match="2 places"):
        read_caption("{concept} and {concept}")
    with pytest.raises(BadSettings, match="no tokens"):
        lay_out(ENCODER, read_caption(PLAIN), " ", 1, ContextWords())
    with pytest.raises(BadSettings, match="at most 3"):
        token_start(ENCODER, RARE["clip_l"], 4)
    with pytest.raises(PromptTooLong):
        lay_out(ENCODER, read_caption(PLAIN), "fish", 1, ContextWords(LENGTH, 0))
    assert read_caption("a {concept} in snow").with_noun("fish") == "a fish in snow"


def test_a_stream_of_ids_learns_nothing_and_holds_reserved_ids_for_the_modifier_tokens() -> None:
    other = IdsAlone(torch.zeros(1000, 1), torch.zeros(LENGTH, 1))
    words, caption = ContextWords("A", "."), read_caption("my {concept} in snow")
    layout = {"clip_l": lay_out(ENCODER, caption, "fish", 2, words), "ids": lay_out(other, caption, "fish", 2, words)}
    text = LearnedText(MODEL.encoders | {"ids": other}, [layout], RARE, 2, words, torch.Generator())
    assert {name.rpartition(".")[2] for name, _ in text.named_parameters()} == {"clip_l"}
    embeds, ends = text.rows([0], [layout])
    before, after = other.tokenize("A my"), other.tokenize("fish in snow .")
    assert embeds["ids"][0, :, 0].tolist()[: len(before) + 2 + len(after) + 1] == [*before, 900, 899, *after, END]
    assert ends["ids"].tolist() == [len(before) + 2 + len(after)] and ends["clip_l"].tolist() == [9]
    with pytest.raises(BadSettings, match="at most 2"):
        lay_out(other, caption, "fish", 3, words)
