"""Templates with places for several concepts."""

from __future__ import annotations

import pytest

from dci_core.errors import BadSettings, SpanNotFound
from dci_core.text.places import Named, fill_places, pair_of_several
from dci_core.text.tokens import PromptPair

FISH, CAR = Named("myfish", "fish", "cat"), Named("mycar", "car", "star")


class Words:
    """A tokenizer of one id a word; a trigger has two."""

    length = 20

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def tokenize(self, text: str) -> list[int]:
        words = [half for word in text.split() for half in ((word, word + "'") if word.startswith("my") else (word,))]
        return [self.ids.setdefault(word, len(self.ids)) for word in words]


def test_each_concept_has_its_own_slots_in_both_prompts() -> None:
    pair = pair_of_several("a {concept:a} in snow next to a {concept:b}", [FISH, CAR], Words())
    assert (pair.concept, pair.auxiliary) == (
        "a myfish fish in snow next to a mycar car",
        "a cat in snow next to a star",
    )
    assert pair.tokens.concept.parts == ((2, 3, 4), (10, 11, 12))
    assert pair.tokens.concept.span == (2, 3, 4, 10, 11, 12)
    assert pair.tokens.auxiliary.parts == ((2,), (8,))


@pytest.mark.parametrize("names", [("a", "b"), ("1", "2"), ("myfish", "mycar"), (" MyFish", "2 ")])
def test_a_place_is_named_by_letter_number_or_trigger(names: tuple[str, str]) -> None:
    template = f"a {{concept:{names[0]}}} by a {{concept:{names[1]}}}"
    assert fill_places(template, [FISH, CAR], [FISH.phrase, CAR.phrase]) == "a myfish fish by a mycar car"


def test_places_come_in_any_order_and_more_than_once() -> None:
    pair = pair_of_several("{concept:b} and {concept:a} and {concept:b}", [FISH, CAR], Words())
    assert pair.tokens.concept.parts == ((5, 6, 7), (1, 2, 3, 9, 10, 11))
    assert pair.tokens.auxiliary.parts == ((3,), (1, 5))


def test_the_ids_are_those_of_the_written_prompt() -> None:
    words = Words()
    pair = pair_of_several("a {concept:a} by a {concept:b}.", [FISH, CAR], words)
    assert list(pair.concept_ids[:-1]) == words.tokenize("a myfish fish by a mycar car")


def test_one_concept_still_has_no_parts() -> None:
    pair = PromptPair.from_template(
        "a {concept} in snow", trigger="myfish", noun="fish", auxiliary="cat", encoder=Words()
    )
    assert pair.tokens.concept.parts == () and pair.tokens.concept.spans_in_real == (pair.tokens.concept.span_in_real,)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("a {concept:a} in snow", '"mycar"; a place for each concept is expected; write {concept:b}'),
        ("a {concept:a} by a {concept:c}", 'names the concept "c"; one of {concept:a} (myfish)'),
        ("a {concept} by a {concept:b}", "write {concept:a} and {concept:b}"),
        ("a fish by a car", '"myfish"'),
    ],
)
def test_a_wrong_place_is_told_with_what_to_write(template: str, told: str) -> None:
    with pytest.raises(SpanNotFound) as error:
        pair_of_several(template, [FISH, CAR], Words())
    assert told in str(error.value).replace(" has no place for the concept", "")


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (Named("MYFISH", "car", "star"), "trigger"),
        (Named("mycar", "car", "cat"), "stand-in"),
        (Named("mycar", "car", "car"), "class"),
        (Named("mycar", "car", " "), "noun"),
    ],
)
def test_concepts_that_cannot_be_told_apart_are_refused(second: Named, told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        pair_of_several("a {concept:a} by a {concept:b}", [FISH, second], Words())
