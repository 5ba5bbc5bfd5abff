"""Prompt pairs in the host: from a prompt with a trigger in it to a conditioning and a plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ....dci_core.concept.learned import Concept
from ....dci_core.errors import BadModel, BadSettings, SpanNotFound
from ....dci_core.families.table import FAMILIES
from ....dci_core.fingerprint import short_hash
from ....dci_core.text.places import Named, fill_places, has_names
from ....dci_core.text.tokens import PairTokens, TokenSet, find_span
from ..concept.triggers import ENCODER, Row, around_prompts, encoder_names, rows_of, tokenizer_of, words_of
from .plan import MARK, TEXT_MARKS, DciPlan


@dataclass(frozen=True)
class Prompt:
    """One prompt as one text encoder of the host reads it.

    ids     its words; the k-th vector of a trigger, counted from 0, is -1 - k
    slots   where each stands in the context, all chunks counted through
    length  slots of the context; None where the model makes another number of rows of them
    """

    text: str
    ids: tuple[int, ...]
    slots: tuple[int, ...]
    length: int | None

    def tokens(self, spellings: list[list[int]], name: str) -> TokenSet:
        """Where words stand in one of these spellings; raises SpanNotFound."""
        places: set[int] = set()
        for words in spellings:
            try:
                places.update(find_span(self.ids, words, name, self.text))
            except SpanNotFound:
                if words is spellings[-1] and not places:
                    raise
        return TokenSet(tuple(self.slots[place] for place in sorted(places)), self.slots, self.length)


def make_pair(clip: Any, concept: Concept, prompt: str, noun: str, auxiliary: str = "") -> tuple[Any, DciPlan, str]:
    """(the concept's conditioning, its plan, which tokens were found).

    prompt     with the concept's trigger and noun in it, as for the stock text encode
    noun       ordinary word that stands in for them in the auxiliary prompt
    auxiliary  the auxiliary prompt in full; empty: the prompt with the noun in the concept's place
    raises     SpanNotFound, BadSettings, BadModel
    """
    auxiliary, tokens = read_pair(clip, concept, prompt, noun, auxiliary)
    mark = short_hash([repr((prompt, auxiliary, concept.trigger, tokens)).encode()])
    positive, plan = encode_pair(clip, mark, prompt, auxiliary, tokens)
    return positive, plan, describe(plan, concept, noun)


def encode_pair(clip: Any, mark: str, prompt: str, auxiliary: str, tokens: PairTokens) -> tuple[Any, DciPlan]:
    """(the prompt's conditioning with the mark, its plan)."""
    positive = clip.encode_from_tokens_scheduled(clip.tokenize(prompt), add_dict={MARK: mark})
    other = clip.encode_from_tokens(clip.tokenize(auxiliary), return_pooled=True, return_dict=True)
    own = tuple(text for text, _ in positive)
    marks = {name: value for name, value in other.items() if name in TEXT_MARKS}
    plan = DciPlan(mark, other["cond"], other.get("pooled_output"), tokens, (prompt, auxiliary), own, marks)
    return positive, plan


def read_pair(clip: Any, concept: Concept, prompt: str, noun: str, auxiliary: str = "") -> tuple[str, PairTokens]:
    """(the auxiliary prompt, where concept and noun are in both), nothing encoded yet; raises as `make_pair` does."""
    if not noun.strip():
        raise BadSettings("no auxiliary noun came", "an ordinary word is expected", "write one, such as cat")
    auxiliary = auxiliary.strip() or stand_in(prompt, concept, noun)
    behind = FAMILIES[concept.family].behind if concept.family in FAMILIES else ""
    found = {name: pair_tokens(clip, name, concept, prompt, noun, auxiliary) for name in text_streams(clip, concept)}
    sets = [tokens for name, tokens in found.items() if name != behind]
    if len(set(sets)) != 1:
        raise BadModel(
            "the two text encoders cut the prompt into different tokens",
            "the same words in the same places are expected",
            "leave out embeddings that only one of them has",
        )
    if behind not in found:
        return auxiliary, sets[0]
    sides = [(one.concept, one.auxiliary) for one in (sets[0], found[behind])]
    return auxiliary, PairTokens(*(first.before(second) for first, second in zip(*sides, strict=True)))


def text_streams(clip: Any, concept: Concept) -> list[str]:
    """The tokenizers whose tokens are the rows of text that the model reads: every encoder's, or the family's one."""
    stream = FAMILIES[concept.family].text_stream if concept.family in FAMILIES else ""
    return [stream] if stream else encoder_names(clip)


def places_of(rows: Sequence[Row]) -> list[int]:
    """What stands for a trigger's modifier tokens in `Prompt.ids`."""
    return [row if isinstance(row, int) else -1 - k for k, row in enumerate(rows)]


@dataclass(frozen=True)
class Placed:
    """One of several concepts in a prompt: its stand-in, and the mask [h w] or [b h w] of where it goes, or None."""

    concept: Concept
    noun: str
    region: Tensor | None = None


def make_several(clip: Any, placed: Sequence[Placed], prompt: str, auxiliary: str = "") -> tuple[Any, DciPlan, str]:
    """`make_pair` for several concepts in one prompt, or for one that has a region.

    prompt     with each one's trigger and noun in it, or `{concept:a}`, `{concept:b}` in their places
    auxiliary  the auxiliary prompt in full, with every noun in it; empty: made from the prompt
    raises     SpanNotFound, BadSettings, BadModel
    """
    concepts, nouns = [one.concept for one in placed], [one.noun for one in placed]
    check_apart(concepts, nouns)
    if has_names(prompt):
        named = [Named(concept.trigger, concept.noun, noun) for concept, noun in zip(concepts, nouns, strict=True)]
        prompt = fill_places(prompt, named, [concept.phrase for concept in concepts])
    if not auxiliary.strip():
        auxiliary = prompt
        for one in placed:
            auxiliary = stand_in(auxiliary, one.concept, one.noun)
    found = [read_pair(clip, one.concept, prompt, one.noun, auxiliary)[1] for one in placed]
    tokens = PairTokens(joined([one.concept for one in found]), joined([one.auxiliary for one in found]))
    mark = short_hash([repr((prompt, auxiliary, [c.trigger for c in concepts], tokens)).encode()])
    positive, plan = encode_pair(clip, mark, prompt, auxiliary, tokens)
    told = [
        describe(replace(plan, tokens=one), concept, noun)
        for one, concept, noun in zip(found, concepts, nouns, strict=True)
    ]
    plan = replace(plan, concepts=tuple(concepts), regions=tuple(one.region for one in placed))
    return positive, plan, "\n".join(told)


def check_apart(concepts: Sequence[Concept], nouns: Sequence[str]) -> None:
    """Raises BadSettings where two concepts have one trigger or one stand-in."""
    for what, words, do in (
        ("trigger", [concept.trigger for concept in concepts], "train or save one of them with another trigger"),
        ("stand-in", nouns, "choose another noun, or their places cannot be told apart"),
    ):
        plain = [" ".join(word.lower().split()) for word in words]
        if len(set(plain)) < len(plain):
            raise BadSettings(
                f'two concepts have the {what} "{words[-1]}"', "a word of its own for each is expected", do
            )


def joined(sets: Sequence[TokenSet]) -> TokenSet:
    """Several concepts' words of one prompt as one set; raises SpanNotFound where one stands inside another."""
    first = sets[0]
    spans = [slot for each in sets for slot in each.span]
    if len(set(spans)) < len(spans):
        raise SpanNotFound(
            "two concepts were found in the same words", "words of its own for each are expected", "change a trigger"
        )
    return TokenSet(tuple(sorted(spans)), first.real, first.length, tuple(each.span for each in sets))


def stand_in(prompt: str, concept: Concept, noun: str) -> str:
    """The prompt with the ordinary noun where the concept stands; raises SpanNotFound."""
    spaced = r"\s+".join(map(re.escape, concept.phrase.split()))
    changed, count = re.subn(rf"(?<!\w){spaced}(?!\w)", lambda _: noun.strip(), prompt, flags=re.IGNORECASE)
    if not count:
        raise SpanNotFound(
            f'"{concept.phrase}" is not in the prompt "{prompt}"',
            "the trigger with its noun is expected there",
            f'write "{concept.phrase}" where the concept should stand',
        )
    return changed


def pair_tokens(clip: Any, encoder: str, concept: Concept, prompt: str, noun: str, auxiliary: str) -> PairTokens:
    """Where concept and stand-in are, in one encoder."""
    rows = rows_of(clip, encoder, concept.trigger)
    if not rows:
        raise BadSettings(
            f'the CLIP does not know the trigger "{concept.trigger}"',
            "the CLIP that knows this concept is expected",
            "connect the CLIP that Load ICO Concept or ICO Train Concept gives",
        )
    words = tokenizer_of(clip, encoder).tokenizer
    own, other = (spellings(words, word) for word in (concept.noun, noun))
    if own[0] == other[0]:
        raise BadSettings(
            f'the auxiliary noun "{noun}" is the concept\'s own class',
            "another class is expected, one that the model draws easily in any scene",
            "choose another noun",
        )
    phrase = [places_of(rows) + own[0]]
    keeps = concept.family not in FAMILIES or FAMILIES[concept.family].keeps_template
    return PairTokens(
        read_prompt(clip, encoder, prompt, rows, keeps).tokens(phrase, concept.phrase),
        read_prompt(clip, encoder, auxiliary, rows, keeps).tokens(other, noun),
    )


def spellings(words: Any, noun: str) -> list[list[int]]:
    """Ids of a noun behind another word, and at the beginning of a text where a tokenizer tells the two apart."""
    noun = noun.strip()
    inside, first = words_of(words, f" {noun}"), words_of(words, noun)
    return [inside] if inside == first else [inside, first]


def read_prompt(clip: Any, encoder: str, text: str, rows: tuple[Any, ...], keeps_template: bool = True) -> Prompt:
    """A prompt as the encoder reads it: words of all chunks, each chunk's begin mark, end mark and padding left out,
    and what a language model's tokenizer writes around every prompt.

    keeps_template  whether what it writes before the prompt has slots in the context
    """
    words = tokenizer_of(clip, encoder)
    begin = words.tokens_start
    end = words.pad_token if words.end_token is None else words.end_token
    place = {id(row): -1 - k for k, row in enumerate(rows)}
    ids: list[int] = []
    slots: list[int] = []
    start = 0
    for chunk in clip.tokenize(text)[encoder.removeprefix(ENCODER)]:
        for slot, (token, *_) in enumerate(chunk[begin:], start + begin):
            if isinstance(token, int) and token == end:
                break
            ids.append(token if isinstance(token, int) else place.get(id(token), len(place) + 10**6))
            slots.append(slot)
        start += len(chunk)
    head, tail = (len(words_of(words.tokenizer, part)) for part in around_prompts(clip.tokenizer))
    mine = slice(head, len(ids) - tail)
    length = start if hasattr(clip.cond_stage_model, encoder) else None
    if length is not None and not keeps_template:
        slots, length = [slot - head for slot in slots], length - head
    return Prompt(text, tuple(ids[mine]), tuple(slots[mine]), length)


def describe(plan: DciPlan, concept: Concept, noun: str) -> str:
    """What was found, for the user to read."""
    here, there = plan.tokens.concept, plan.tokens.auxiliary
    return (
        f'concept: "{plan.texts[0]}"\n  "{concept.phrase}" at tokens {list(here.span)} of {len(here.real)}\n'
        f'auxiliary: "{plan.texts[1]}"\n  "{noun}" at tokens {list(there.span)} of {len(there.real)}'
    )
