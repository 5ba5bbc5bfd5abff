"""Where the concept and its stand-in stand in their prompts. Ids are without begin and end marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import BadSettings, PromptTooLong, SpanNotFound

PLACEHOLDER = "{concept}"
MARKS = 2  # begin and end


class Tokenizer(Protocol):
    """The part of a TokenEncoder that finding words needs."""

    @property
    def length(self) -> int:
        """Slots in all, marks included."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of the words, no begin or end mark, no padding."""


@dataclass(frozen=True)
class TokenSet:
    """Slots of one prompt in its context, counted over the whole context (slot 0 is the first begin mark).

    span    slots of the words that are looked for
    parts   the span by concept, where the prompt holds several: each one's slots; empty: the span is of one
    real    slots of every word; begin marks, end marks and padding of each chunk are left out
    length  slots of the context in all, for hosts that repeat a short context; None: all there are
    """

    span: tuple[int, ...]
    real: tuple[int, ...]
    length: int | None = None
    parts: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.span or not set(self.span) <= set(self.real):
            raise SpanNotFound(
                f"slots {list(self.span)} were named among the prompt's {list(self.real)}",
                "at least one, and each a word of the prompt, is expected",
                "name a word that the prompt holds",
            )

    @classmethod
    def from_places(cls, places: Sequence[int], num_ids: int, chunk: int = 77) -> TokenSet:
        """A prompt of num_ids ids, of which those at `places` (0 the first word) are looked for.

        chunk  slots of one pass of the text encoder; a longer prompt fills several, each with its own marks
        """
        words = chunk - MARKS
        slots = [place // words * chunk + 1 + place % words for place in range(num_ids)]
        num_chunks = max(-(-num_ids // words), 1)
        return cls(tuple(slots[place] for place in places), tuple(slots), num_chunks * chunk)

    def before(self, other: TokenSet) -> TokenSet:
        """The slots of a context in which another encoder's rows of the same prompt stand behind this one's."""
        assert self.length is not None and other.length is not None and not (self.parts or other.parts)
        span, real = (
            (*mine, *(slot + self.length for slot in theirs))
            for mine, theirs in ((self.span, other.span), (self.real, other.real))
        )
        return TokenSet(span, real, self.length + other.length)

    @property
    def spans_in_real(self) -> tuple[tuple[int, ...], ...]:
        """Each concept's span as positions within `real`."""
        return tuple(tuple(self.real.index(slot) for slot in span) for span in self.parts or (self.span,))

    @property
    def span_in_real(self) -> tuple[int, ...]:
        """The span as positions within `real`."""
        return tuple(self.real.index(slot) for slot in self.span)


@dataclass(frozen=True)
class PairTokens:
    """The two prompts of a pair as slots: what DBIM needs to know of the text."""

    concept: TokenSet
    auxiliary: TokenSet


def find_span(ids: Sequence[int], words: Sequence[int], name: str, prompt: str) -> tuple[int, ...]:
    """Places in `ids` that hold `words` in a row, every occurrence; raises SpanNotFound.

    find_span([4, 7, 8, 9], [7, 8], "cat", "a cat sits") == (1, 2)
    """
    places: list[int] = []
    for start in range(len(ids) - len(words) + 1):
        is_new = not places or start > places[-1]
        if words and is_new and list(ids[start : start + len(words)]) == list(words):
            places += range(start, start + len(words))
    if not places:
        raise SpanNotFound(
            f"{name!r} is not in the prompt {prompt!r}",
            "it is expected there as a word",
            "write it where it should stand",
        )
    return tuple(places)


@dataclass(frozen=True)
class PromptPair:
    """A concept prompt and its auxiliary prompt, as text, ids and slots.

    tokens  the concept's span is every modifier token and every token of its class noun
    """

    concept: str
    auxiliary: str
    concept_ids: tuple[int, ...]
    auxiliary_ids: tuple[int, ...]
    tokens: PairTokens

    @classmethod
    def from_template(
        cls,
        template: str,
        *,
        trigger: str,
        noun: str,
        auxiliary: str,
        encoder: Tokenizer,
        auxiliary_prompt: str | None = None,
    ) -> PromptPair:
        """The pair that a template like "a {concept} in snow" makes.

        trigger           the concept's word, which the encoder knows as its modifier tokens; stands before the noun
        noun              the concept's class
        auxiliary         an ordinary word in its place, of another class than the noun
        auxiliary_prompt  a prompt of the user's own that holds the auxiliary word; None: the template with it put in
        raises            SpanNotFound, BadSettings, PromptTooLong
        """
        if PLACEHOLDER not in template:
            raise SpanNotFound(
                f"the template is {template!r}",
                f"it must hold {PLACEHOLDER}",
                "write it where the concept should stand",
            )
        phrase = f"{trigger} {noun}".strip()
        auxiliary_ids = word_ids(auxiliary, encoder)
        if auxiliary_ids == word_ids(noun, encoder):
            raise BadSettings(
                f"the auxiliary noun {auxiliary!r} is the concept's own class",
                "another class is expected, one that the model draws easily in any scene",
                "choose another noun",
            )
        concept_text = template.replace(PLACEHOLDER, phrase)
        ids, places = fill_template(template, word_ids(phrase, encoder), encoder)
        concept_set = fitting_set(concept_text, ids, places, encoder)
        if auxiliary_prompt is None:
            auxiliary_prompt = template.replace(PLACEHOLDER, auxiliary)
            other_ids, places = fill_template(template, auxiliary_ids, encoder)
        else:
            other_ids = encoder.tokenize(auxiliary_prompt)
            places = find_span(other_ids, auxiliary_ids, auxiliary, auxiliary_prompt)
        tokens = PairTokens(concept_set, fitting_set(auxiliary_prompt, other_ids, places, encoder))
        return cls(concept_text, auxiliary_prompt, tuple(ids), tuple(other_ids), tokens)


def fill_template(template: str, ids: Sequence[int], encoder: Tokenizer) -> tuple[list[int], tuple[int, ...]]:
    """(ids of the whole prompt, places of `ids` in it): the ids stand wherever the template holds {concept}."""
    filled: list[int] = []
    places: list[int] = []
    for i, part in enumerate(template.split(PLACEHOLDER)):
        if i > 0:
            places += range(len(filled), len(filled) + len(ids))
            filled += ids
        filled += encoder.tokenize(part)
    return filled, tuple(places)


def fitting_set(prompt: str, ids: Sequence[int], places: Sequence[int], encoder: Tokenizer) -> TokenSet:
    """The slots of a prompt that fits one pass of the text encoder; raises PromptTooLong."""
    room = encoder.length - MARKS
    if len(ids) > room:
        raise PromptTooLong(
            f"the prompt {prompt!r} has {len(ids)} tokens",
            f"the text encoder takes {room}",
            f"leave out {len(ids) - room} or more",
        )
    return TokenSet.from_places(places, len(ids), encoder.length)


def word_ids(word: str, encoder: Tokenizer) -> list[int]:
    """Ids of a noun; raises BadSettings where it holds none."""
    ids = list(encoder.tokenize(word))
    if not ids:
        raise BadSettings(f"the noun {word!r} holds no word", "a word is expected", "write an ordinary noun")
    return ids
