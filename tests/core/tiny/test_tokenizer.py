"""The small world's tokenizer: CLIP's form, one token a word but for the nouns kept in two pieces."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from dci_core.errors import PromptTooLong
from dci_core.tiny.tokenizer import BEGIN, END, FOLDER, LENGTH, frame, load_tokenizer, train_tokenizer
from dci_core.tiny.world.words import IN_TWO_PIECES, NOUNS, every_word

TOKENIZER = load_tokenizer()
TEXTS = (
    "a photo of a purple and yellow striped fish with a hat in water",
    "An  ORANGE butterfly, next to a cactus!",
    "a sepia print of a teapot's mushroom by a brick wall",
    "zor 42 unheard-of words... (twice)",
    "",
)


def ids_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text).ids
    return ids


@pytest.mark.parametrize("word", sorted(set(every_word()) - set(IN_TWO_PIECES)))
def test_a_word_of_the_world_is_one_token(word: str) -> None:
    assert len(ids_of(word)) == 1


def test_four_nouns_are_two_tokens() -> None:
    assert {noun: len(ids_of(noun)) for noun in NOUNS if len(ids_of(noun)) > 1} == dict.fromkeys(IN_TWO_PIECES, 2)


def test_any_ascii_word_is_spelled_in_full() -> None:
    assert "".join(TOKENIZER.encode("qwxyz").tokens) == "qwxyz</w>"


def test_words_have_the_same_tokens_in_a_sentence_as_alone() -> None:
    assert ids_of("a butterfly in snow") == [i for word in ["a", "butterfly", "in", "snow"] for i in ids_of(word)]


def test_it_agrees_with_the_public_clip_tokenizer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other library, at its import
        from transformers import CLIPTokenizer

        other = CLIPTokenizer.from_pretrained(FOLDER)
        for text in TEXTS:
            assert other(text, add_special_tokens=False)["input_ids"] == ids_of(text), text


def test_training_it_again_gives_one_of_the_same_kind(tmp_path: Path) -> None:
    """Not the same file: between pairs that are equally frequent the library chooses differently each time."""
    train_tokenizer(every_word(), IN_TWO_PIECES, tmp_path)
    again = load_tokenizer(tmp_path)
    pieces = {word: len(again.encode(word).ids) for word in every_word()}
    assert {word for word, count in pieces.items() if count != 1} == set(IN_TWO_PIECES)
    assert {pieces[word] for word in IN_TWO_PIECES} == {2}


def test_the_marks_are_the_last_entries() -> None:
    entries = json.loads((FOLDER / "vocab.json").read_text())
    assert [entries[mark] for mark in (BEGIN, END)] == [len(entries) - 2, len(entries) - 1]


def test_a_frame_begins_ends_and_is_padded_with_end_marks() -> None:
    assert frame([5, 6], begin=1, end=2).tolist() == [1, 5, 6] + [2] * (LENGTH - 3)


def test_seventy_five_tokens_fit_and_one_more_is_refused() -> None:
    assert frame([5] * 75, begin=1, end=2)[-1] == 2
    with pytest.raises(PromptTooLong, match="76 tokens; at most 75"):
        frame([5] * 76, begin=1, end=2)
