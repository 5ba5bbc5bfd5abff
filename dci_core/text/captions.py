"""Captions with a place for the concept, and the text encoder's answer to plain captions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SpanNotFound
from ..indices import indices_on
from ..model import Model, Text, TokenEncoder
from .tokens import PLACEHOLDER

ENCODE_ROWS = 16  # captions in one call of the text encoder


@dataclass(frozen=True)
class Caption:
    """Words before and after the concept: "photo of a {concept} on a sofa"."""

    before: str
    after: str

    def with_noun(self, noun: str) -> str:
        """The caption with an ordinary noun in the concept's place."""
        return " ".join(f"{self.before} {noun} {self.after}".split())


def read_caption(text: str) -> Caption:
    """The caption's two halves; raises SpanNotFound unless `{concept}` stands in it once."""
    if text.count(PLACEHOLDER) != 1:
        raise SpanNotFound(
            f'the caption "{text}" has {text.count(PLACEHOLDER)} places for the concept',
            f"{PLACEHOLDER} once was expected",
            f"write {PLACEHOLDER} where the concept should stand",
        )
    before, after = text.split(PLACEHOLDER)
    return Caption(before, after)


def with_place(caption: str, noun: str) -> str:
    """The caption with `{concept}` for the first such noun, where it has no place for the concept yet.

    with_place("a dog on a sofa", "dog") == "a {concept} on a sofa"
    """
    if not noun or PLACEHOLDER in caption:
        return caption
    return re.sub(rf"(?<!\w){re.escape(noun)}(?!\w)", lambda _: PLACEHOLDER, caption, count=1, flags=re.IGNORECASE)


def own_caption(caption: str, noun: str) -> str:
    """A training picture's caption with `{concept}` in it, blank where it is; raises SpanNotFound without a place."""
    placed = with_place(caption, noun)
    if placed.strip() and PLACEHOLDER not in placed:
        raise SpanNotFound(
            f'the caption "{caption}" holds neither {PLACEHOLDER} nor the noun "{noun}"',
            "one of them was expected where the thing stands",
            "write it there, or take as noun the word that the captions have for the thing",
        )
    return placed


def tokenize(encoder: TokenEncoder, text: str) -> list[int]:
    """Ids of the words; none for blank text."""
    return encoder.tokenize(text) if text.strip() else []


def encode_captions(model: Model, captions: Sequence[str]) -> Text:
    """Plain captions as text, one row each; no gradient reaches any embedding."""
    rows = [[tokenize(encoder, caption) for encoder in model.encoders.values()] for caption in captions]
    with torch.no_grad():
        return join_text([_encode(model, rows[i : i + ENCODE_ROWS]) for i in range(0, len(rows), ENCODE_ROWS)])


def encode_ids(model: Model, ids: Sequence[int]) -> Text:
    """One row of text from ids without marks, the same for every encoder; raises PromptTooLong."""
    with torch.no_grad():
        return _encode(model, [[ids] * len(model.encoders)])


def join_text(texts: Sequence[Text]) -> Text:
    """Rows of all texts, in order."""
    pooled = [text.pooled for text in texts if text.pooled is not None]
    lengths = [length for text in texts for length in text.lengths or ()]
    return Text(
        torch.cat([text.hidden for text in texts]), torch.cat(pooled) if pooled else None, tuple(lengths) or None
    )


def pick_text(text: Text, rows: Sequence[int]) -> Text:
    """The chosen rows of a text."""
    chosen = indices_on(tuple(rows), text.hidden.device)
    return text.chosen(rows, lambda value: value[chosen])


def _encode(model: Model, rows: Sequence[Sequence[Sequence[int]]]) -> Text:
    """rows[i][j] are the ids of row i for encoder j."""
    embeds: dict[str, Tensor] = {}
    ends: dict[str, Tensor] = {}
    for name, encoder, ids in zip(model.encoders, model.encoders.values(), zip(*rows, strict=True), strict=True):
        embeds[name] = encoder.embed(torch.stack([encoder.frame(row) for row in ids]))
        ends[name] = torch.tensor([len(row) + encoder.begin for row in ids])
    return model.encode(embeds, ends)
