"""Prompts as the model reads them."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import Model, Text
from .captions import encode_captions, encode_ids
from .tokens import PairTokens, PromptPair


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts of one run, one row each; the last two only where there is a dual branch.

    tokens  where the concept and the auxiliary noun stand in theirs
    """

    concept: Text
    empty: Text
    auxiliary: Text | None = None
    tokens: PairTokens | None = None

    @classmethod
    def from_pair(cls, model: Model, pair: PromptPair) -> Prompts:
        """The three texts of a pair."""
        concept, empty, auxiliary = (encode_ids(model, ids) for ids in (pair.concept_ids, (), pair.auxiliary_ids))
        return cls(concept, empty, auxiliary, pair.tokens)

    @classmethod
    def from_text(cls, model: Model, prompt: str, negative: str = "") -> Prompts:
        """A prompt and a negative one, for plain sampling; raises PromptTooLong."""
        return cls(encode_text(model, prompt), encode_text(model, negative))


def encode_text(model: Model, prompt: str) -> Text:
    """One row of text; raises PromptTooLong."""
    return encode_captions(model, [prompt])
