"""Where a subject's noun stands among the text rows that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....dci_core.errors import BadSettings
from ....dci_core.text.tokens import find_span

READERS = (("t5xxl", "t5xxl"), ("qwen25_7b", "qwen25_7b"), ("l", "clip_l"))  # key of its tokens, name in the CLIP


@dataclass(frozen=True)
class NounPlaces:
    """A noun's tokens, counted from the end of the text rows, since other rows may stand before them or be cut off.

    noun    as written
    places  -1 is the last row of the prompt
    """

    noun: str
    places: tuple[int, ...]

    def among(self, rows: int) -> tuple[int, ...]:
        """The same counted from the start of so many text rows; raises BadSettings where they cannot be in them."""
        found = tuple(rows + place for place in self.places)
        if min(found) < 0:
            raise BadSettings(
                f'the sampler\'s positive has {rows} text rows, too few for "{self.noun}"',
                "the conditioning of the prompt that Apply DynaIP was given is expected",
                "encode that prompt with the same CLIP for the sampler",
            )
        return found


def find_noun(clip: Any, prompt: str, noun: str) -> NounPlaces:
    """Where a noun stands in a prompt, by the text encoder whose rows end the model's text; raises SpanNotFound and
    BadSettings for an empty noun or prompt, or no CLIP.
    """
    given = {"clip": clip, "noun": noun.strip(), "prompt": prompt.strip()}
    if missing := [name for name, there in given.items() if not there]:
        raise BadSettings(
            f"where is noun, and {' and '.join(missing)} did not come",
            "a CLIP, the subject's noun and the prompt that holds it are expected",
            "give them, or choose another where",
        )
    key, words = reader_of(clip)
    rows = [(token, *rest) for chunk in clip.tokenize(prompt, return_word_ids=True)[key] for token, *rest in chunk]
    ids = [token if isinstance(token, int) else -1 for token, *_ in rows]
    spellings = [spell(words, text) for text in (noun.strip(), f" {noun.strip()}")]
    for spelling in spellings:
        if spelling and spelling in [ids[i : i + len(spelling)] for i in range(len(ids))]:
            return NounPlaces(noun, tuple(place - len(ids) for place in find_span(ids, spelling, noun, prompt)))
    return NounPlaces(noun, find_span(ids, spellings[0], noun, prompt))


def reader_of(clip: Any) -> tuple[str, Any]:
    """(key of its tokens, its tokenizer) of the encoder whose rows come last."""
    for key, name in READERS:
        if hasattr(clip.tokenizer, name) and getattr(clip.cond_stage_model, name, None) is not None:
            return key, getattr(clip.tokenizer, name)
    raise BadSettings(
        f"the CLIP is a {type(clip.cond_stage_model).__name__}",
        f"one that holds {', '.join(name for _, name in READERS)} is expected",
        "use the CLIP of the model's family, or choose another where",
    )


def spell(words: Any, text: str) -> list[int]:
    """Ids of a word alone, marks and padding left out."""
    rows = words.tokenize_with_weights(text, return_word_ids=True)
    return [token for chunk in rows for token, _, word in chunk if word]
