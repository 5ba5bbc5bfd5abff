"""Templates with places for several concepts: "a {concept:a} in snow next to a {concept:b}".

A name is a trigger, or a concept's place in the order in which they were given: a, b, ... or 1, 2, ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import BadSettings, SpanNotFound
from .tokens import PLACEHOLDER, PairTokens, PromptPair, Tokenizer, TokenSet, fitting_set, word_ids

NAMED = re.compile(r"\{concept:([^{}]*)\}")


@dataclass(frozen=True)
class Named:
    """A concept in a prompt.

    trigger    its word, which the encoder knows as its modifier tokens
    noun       its class, which follows the trigger
    auxiliary  an ordinary word of another class, which stands in for both
    """

    trigger: str
    noun: str
    auxiliary: str

    @property
    def phrase(self) -> str:
        """What stands for it in a prompt."""
        return f"{self.trigger} {self.noun}".strip()


def has_names(template: str) -> bool:
    """Whether the template names concepts."""
    return NAMED.search(template) is not None


def which_concept(name: str, triggers: Sequence[str], template: str) -> int:
    """The index of the concept that a place names; raises SpanNotFound."""
    plain = name.strip().lower()
    known = [trigger.lower() for trigger in triggers]
    if plain in known:
        return known.index(plain)
    orders = [str(i + 1) for i in range(len(known))], [chr(ord("a") + i) for i in range(len(known))]
    for order in orders:
        if plain in order:
            return order.index(plain)
    told = ", ".join(f"{{concept:{letter}}} ({trigger})" for letter, trigger in zip(orders[1], triggers, strict=True))
    raise SpanNotFound(
        f'the template "{template}" names the concept "{name}"', f"one of {told} is expected", "correct the name"
    )


def split_template(template: str, triggers: Sequence[str]) -> tuple[list[str], list[int]]:
    """(the words around the places, which concept stands in each); every concept stands somewhere.

    split_template("a {concept:a} by a {concept:b}", ["myfish", "mycar"]) == (["a ", " by a ", ""], [0, 1])
    Raises SpanNotFound.
    """
    if PLACEHOLDER in template:
        raise SpanNotFound(
            f'the template "{template}" holds {PLACEHOLDER}',
            f"a name in each of its places is expected, since there are {len(triggers)} concepts",
            "write {concept:a} and {concept:b}",
        )
    words, names = NAMED.split(template)[::2], NAMED.split(template)[1::2]
    which = [which_concept(name, triggers, template) for name in names]
    missing = [i for i in range(len(triggers)) if i not in which]
    if missing:
        letter = chr(ord("a") + missing[0])
        raise SpanNotFound(
            f'the template "{template}" has no place for the concept "{triggers[missing[0]]}"',
            "a place for each concept is expected",
            f"write {{concept:{letter}}} where it should stand",
        )
    return words, which


def fill_places(template: str, concepts: Sequence[Named], phrases: Sequence[str]) -> str:
    """The template with each place filled by its concept's phrase; raises SpanNotFound."""
    words, which = split_template(template, [concept.trigger for concept in concepts])
    return "".join(a + b for a, b in zip(words, [*(phrases[i] for i in which), ""], strict=True))


def pair_of_several(template: str, concepts: Sequence[Named], encoder: Tokenizer) -> PromptPair:
    """The pair that a template with a place for each concept makes; raises SpanNotFound, BadSettings, PromptTooLong.

    Its token sets tell each concept's words apart (`TokenSet.parts`), in the order of `concepts`.
    """
    check_several(concepts, encoder)
    sides = []
    for phrases in ([c.phrase for c in concepts], [c.auxiliary for c in concepts]):
        text = fill_places(template, concepts, phrases)
        ids, parts = filled_ids(template, concepts, [word_ids(phrase, encoder) for phrase in phrases], encoder)
        found = fitting_set(text, ids, [place for part in parts for place in part], encoder)
        sides.append((text, ids, in_parts(found, parts, encoder.length)))
    (concept, ids, tokens), (auxiliary, other_ids, other) = sides
    return PromptPair(concept, auxiliary, tuple(ids), tuple(other_ids), PairTokens(tokens, other))


def filled_ids(
    template: str, concepts: Sequence[Named], phrases: Sequence[Sequence[int]], encoder: Tokenizer
) -> tuple[list[int], list[list[int]]]:
    """(ids of the whole prompt, per concept the places of its own)."""
    words, which = split_template(template, [concept.trigger for concept in concepts])
    ids: list[int] = list(encoder.tokenize(words[0])) if words[0].strip() else []
    parts: list[list[int]] = [[] for _ in concepts]
    for index, after in zip(which, words[1:], strict=True):
        parts[index] += range(len(ids), len(ids) + len(phrases[index]))
        ids += phrases[index]
        ids += encoder.tokenize(after) if after.strip() else []
    return ids, parts


def in_parts(found: TokenSet, parts: Sequence[Sequence[int]], chunk: int) -> TokenSet:
    """The set with each concept's slots apart; parts are places among the words."""
    slots = tuple(tuple(found.real[place] for place in part) for part in parts)
    return TokenSet(found.span, found.real, found.length, slots)


def check_several(concepts: Sequence[Named], encoder: Tokenizer) -> None:
    """Raises BadSettings where two concepts have one trigger, or one stand-in, or a stand-in is its own class."""
    triggers = [concept.trigger.lower() for concept in concepts]
    if len(set(triggers)) < len(triggers):
        raise BadSettings(
            f'two concepts have the trigger "{concepts[-1].trigger}"',
            "a word of its own for each is expected",
            "train or save one of them with another trigger",
        )
    nouns = [tuple(word_ids(concept.auxiliary, encoder)) for concept in concepts]
    for concept, noun in zip(concepts, nouns, strict=True):
        if noun == tuple(word_ids(concept.noun, encoder)):
            raise BadSettings(
                f'the auxiliary noun "{concept.auxiliary}" is the class of the concept "{concept.trigger}"',
                "another class is expected, one that the model draws easily in any scene",
                "choose another noun",
            )
    if len(set(nouns)) < len(nouns):
        raise BadSettings(
            f'two concepts have the stand-in "{concepts[-1].auxiliary}"',
            "another for each is expected, or their places cannot be told apart",
            "choose another noun",
        )
