"""Spans: found in ids, made from a template, refused with a sentence."""

from __future__ import annotations

import pytest

from dci_core.errors import BadSettings, PromptTooLong, SpanNotFound
from dci_core.text.captions import with_place
from dci_core.text.tokens import PromptPair, TokenSet, find_span

from ..dci.cross_model import TRIGGER, CrossModel

ENCODER = CrossModel.random().encoders["clip_l"]


def make_pair(template: str = "a {concept} in snow", **changes: str) -> PromptPair:
    words = {"trigger": TRIGGER, "noun": "tortoise", "auxiliary": "cat", **changes}
    return PromptPair.from_template(template, encoder=ENCODER, **words)


def ids_of(words: str) -> list[int]:
    return ENCODER.tokenize(words)


def test_span_is_found_as_a_run_of_ids() -> None:
    assert find_span([4, 7, 8, 9], [7, 8], "cat", "a cat sits") == (1, 2)
    assert find_span([7, 4, 7, 8], [7, 8], "cat", "") == (2, 3)  # a first piece alone is not the word
    assert find_span([7, 8, 1, 7, 8], [7, 8], "cat", "") == (0, 1, 3, 4)
    assert find_span([7, 7, 7], [7, 7], "cat", "") == (0, 1)


@pytest.mark.parametrize("words", [[8, 7], [], [4, 7, 8, 9, 1]])
def test_missing_span_is_refused_in_one_sentence(words: list[int]) -> None:
    with pytest.raises(SpanNotFound, match="'mydog' is not in the prompt 'a dog'; .*; write it"):
        find_span([4, 7, 8, 9], words, "mydog", "a dog")


def test_template_gives_both_prompts_and_their_slots() -> None:
    pair = make_pair()
    assert (pair.concept, pair.auxiliary) == ("a mydog tortoise in snow", "a cat in snow")
    assert pair.concept_ids == tuple(ids_of(pair.concept)) and pair.auxiliary_ids == tuple(ids_of(pair.auxiliary))
    assert pair.tokens.concept.span == (2, 3, 4)  # slot 0 is the begin mark, 1 "a", then two modifiers and the noun
    assert pair.tokens.concept.real == (1, 2, 3, 4, 5, 6)
    assert pair.tokens.auxiliary.span == (2,) and pair.tokens.auxiliary.real == (1, 2, 3, 4)


def test_nouns_of_several_tokens_are_spanned_whole() -> None:
    tokens = make_pair(noun="teddy-bear", auxiliary="polar-bear").tokens
    assert tokens.concept.span == (2, 3, 4, 5) and tokens.auxiliary.span == (2, 3)


def test_the_auxiliary_noun_elsewhere_in_the_template_is_context() -> None:
    tokens = make_pair("a cat and a {concept} in snow").tokens
    assert tokens.auxiliary.span == (5,)


def test_every_place_of_the_concept_counts() -> None:
    assert make_pair("{concept} and {concept}").tokens.concept.span == (1, 2, 3, 5, 6, 7)


def test_an_auxiliary_prompt_of_ones_own_is_searched_for_its_noun() -> None:
    pair = make_pair(auxiliary_prompt="photo of one cat in deep snow")
    assert pair.auxiliary == "photo of one cat in deep snow" and pair.tokens.auxiliary.span == (4,)
    with pytest.raises(SpanNotFound, match="'cat' is not in the prompt"):
        make_pair(auxiliary_prompt="photo of one dog")


def test_a_template_without_the_concept_is_refused() -> None:
    with pytest.raises(SpanNotFound, match=r"must hold \{concept\}"):
        make_pair("a dog in snow")


@pytest.mark.parametrize("auxiliary", ["tortoise", " Tortoise "])
def test_the_concepts_own_class_is_no_auxiliary(auxiliary: str) -> None:
    with pytest.raises(BadSettings, match="own class"):
        make_pair(auxiliary=auxiliary)


@pytest.mark.parametrize("field", ["noun", "auxiliary"])
def test_an_empty_noun_is_refused(field: str) -> None:
    with pytest.raises(BadSettings, match="holds no word"):
        make_pair(**{field: "  "})


def test_a_prompt_that_fills_the_encoder_fits_and_one_more_word_does_not() -> None:
    assert len(make_pair("{concept}" + " very" * 72).concept_ids) == 75
    with pytest.raises(PromptTooLong, match="76 tokens; the text encoder takes 75; leave out 1"):
        make_pair("{concept}" + " very" * 73)
    with pytest.raises(PromptTooLong):
        make_pair(auxiliary_prompt="cat" + " very" * 75)


def test_slots_skip_the_marks_of_each_chunk() -> None:
    tokens = TokenSet.from_places((74, 75), 80)
    assert tokens.span == (75, 78) and tokens.length == 154
    assert tokens.span_in_real == (74, 75) and not {0, 76, 77} & set(tokens.real)


@pytest.mark.parametrize(("span", "real"), [((), (1, 2)), ((3,), (1, 2)), ((1,), ())])
def test_a_span_outside_the_prompt_is_refused(span: tuple[int, ...], real: tuple[int, ...]) -> None:
    with pytest.raises(SpanNotFound):
        TokenSet(span, real)


def test_a_caption_without_a_place_gets_one_at_the_noun() -> None:
    assert with_place("A Dog with a dog bowl", "dog") == "A {concept} with a dog bowl"
    assert with_place("a {concept} and a dog", "dog") == "a {concept} and a dog"
    assert with_place("a doghouse", "dog") == "a doghouse" and with_place("a dog", "") == "a dog"


def test_a_second_encoders_rows_stand_behind_the_firsts() -> None:
    first = TokenSet((2, 3), (1, 2, 3, 4), 77)
    both = first.before(TokenSet((5,), (4, 5, 6), 80))
    assert both == TokenSet((2, 3, 82), (1, 2, 3, 4, 81, 82, 83), 157)
    assert both.span_in_real == (1, 2, 5)
