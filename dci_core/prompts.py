"""Prompts as the model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .indices import indices_on
from .model import Model, Text
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
    return encode_ids(model, next(iter(model.encoders.values())).tokenize(prompt))


def encode_ids(model: Model, ids: Sequence[int]) -> Text:
    """One row of text from ids without marks, the same for every encoder; raises PromptTooLong."""
    embeds = {name: encoder.embed(encoder.frame(ids))[None] for name, encoder in model.encoders.items()}
    ends = {name: torch.tensor([len(ids) + 1], device=rows.device) for name, rows in embeds.items()}
    return model.encode(embeds, ends)


def tile_text(texts: Sequence[Text], rows: Sequence[int]) -> Text:
    """One row of text for each row of a batch: rows[i] says which of the one-row texts."""
    chosen = indices_on(tuple(rows), texts[0].hidden.device)
    hidden = torch.cat([text.hidden for text in texts]).index_select(0, chosen)
    pooled = [text.pooled for text in texts if text.pooled is not None]
    return Text(hidden, torch.cat(pooled).index_select(0, chosen) if pooled else None)
