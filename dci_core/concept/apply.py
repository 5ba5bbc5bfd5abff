"""A model with concepts in place: weights patched on a copy, trigger words added to its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from torch import Tensor

from ..model import Model
from .deltas import Widths
from .learned import Concept, check_fit


class Patchable(Model, Protocol):
    """A model that gives changed copies of itself; what is not changed is shared."""

    def kv_shapes(self) -> Widths:
        """Per cross-attention: (width of keys and values, width of the text)."""

    def with_deltas(self: M, weights: Mapping[str, Tensor]) -> M:
        """A copy whose weights under these LDM keys are theirs plus the given changes."""

    def with_tokens(self: M, trigger: str, vectors: Mapping[str, Tensor]) -> M:
        """A copy whose text encoders know the trigger as these rows, [T c] per encoder."""


M = TypeVar("M", bound=Patchable)


def apply_concept(model: M, concept: Concept, strength: float = 1.0, *, base_hash: str | None = None) -> M:
    """A copy of the model that can draw the concept; the model itself is untouched. Raises BadConcept.

    strength  of the weight changes; at 0 the weights stay the model's own and only the trigger is added
    Several concepts chain: `apply_concept(apply_concept(model, a), b)` adds both changes.
    """
    token_widths = {name: encoder.width for name, encoder in model.encoders.items()}
    check_fit(concept, family=model.family, widths=model.kv_shapes(), token_widths=token_widths, base_hash=base_hash)
    patched = model if strength == 0 else model.with_deltas(concept.weights(strength))
    return patched.with_tokens(concept.trigger, concept.tokens)
