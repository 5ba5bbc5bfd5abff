"""A stand-in that is chosen by itself is never the concept's own kind, and nowhere else in the prompt."""

from __future__ import annotations

import pytest

from dci_core.errors import BadSettings
from dci_core.families.table import FAMILIES
from dci_core.text.stand_ins import AUTO, KIN, stand_in_for
from dci_core.tiny.world.words import AUXILIARY_NOUNS


@pytest.mark.parametrize(
    ("noun", "prompt", "others", "chosen"),
    [
        ("dog", "a mydog dog in the snow", (), "cat"),
        ("cat", "a mycat cat in the snow", (), "dog"),
        ("kitten", "a zorp kitten in the snow", (), "dog"),
        ("mug", "a zorp mug next to a Cat", (), "dog"),
        ("mug", "a zorp mug between cats and puppies, a dog", (), "bird"),
        ("mug", "a zorp mug on a catalogue", (), "cat"),
        ("mug", "a zorp mug by a zimp car", ("car", "cat"), "dog"),
    ],
)
def test_the_first_noun_of_another_kind_is_chosen(noun: str, prompt: str, others: tuple[str, ...], chosen: str) -> None:
    assert stand_in_for(AUTO, noun, prompt, others=others, family="sd15") == chosen
    assert stand_in_for(" Auto", noun, prompt, others=others) == chosen


def test_a_noun_that_was_asked_for_is_left_as_it_is() -> None:
    assert stand_in_for("wool toy", "cat", "a zorp cat", "a wool toy") == "wool toy"


def test_the_small_worlds_take_nouns_without_a_home() -> None:
    assert stand_in_for(AUTO, "fish", "a zorp fish", others=("cat",), family="tiny") == "star"
    for name in ("tiny", "tiny_flow"):
        assert FAMILIES[name].stand_ins == AUXILIARY_NOUNS
    assert all(family.stand_ins == tuple(KIN) for name, family in FAMILIES.items() if not name.startswith("tiny"))


def test_what_cannot_be_chosen_gets_one_sentence() -> None:
    with pytest.raises(BadSettings, match="an auxiliary prompt came"):
        stand_in_for(AUTO, "dog", "a zorp dog", "a cat in snow")
    with pytest.raises(BadSettings, match="names cat, dog, bird, car already"):
        stand_in_for(AUTO, "mug", "a zorp mug with a cat, a dog, a bird and a car")
