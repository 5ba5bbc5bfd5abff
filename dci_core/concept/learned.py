"""A learned concept: modifier tokens, weight changes, and what a later user must know about them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..errors import BadConcept, BadSettings
from ..families.weight_names import PARTS, weight_key
from ..fingerprint import fingerprint
from ..version import VERSION
from .compress import compress_all, relative_error
from .cover import Cover
from .deltas import Delta, LayerDelta, Widths

log = logging.getLogger(__name__)
DEFAULT_RANK = 16
PRECISIONS = {"fp16": torch.float16, "fp32": torch.float32}
CONCEPT_HASH = "concept_hash"  # in the metadata of every file that is made from a concept
FORBIDDEN = "<>():{}[],"  # hosts give these a meaning of their own inside a prompt


@dataclass(frozen=True)
class Provenance:
    """Where a concept comes from; nothing in it names a path or repeats a caption.

    rank               factors of each change, or None for full rank
    error              share of the changes lost to compression and rounding, 0..1
    settings           of the training, without its words
    loss               first, last and mean of the last steps
    base_hash          of the model it was trained on, or None
    clip_layer         hidden layer of the text encoder that was read (-1 the last), or None where the family fixes it
    prediction         "eps", "v" or "flow"
    size_conditioning  SDXL's sizes in training, or None
    """

    rank: int | None = None
    error: float = 0.0
    precision: str = "fp32"
    settings: Mapping[str, object] = field(default_factory=dict)
    loss: Mapping[str, float] = field(default_factory=dict)
    base_hash: str | None = None
    clip_layer: int | None = None
    prediction: str = "eps"
    size_conditioning: Mapping[str, int] | None = None
    code_version: str = VERSION


@dataclass(frozen=True)
class Concept:
    """One concept of one model family.

    trigger  plain word that stands for the modifier tokens in a prompt
    noun     class noun that follows it
    tokens   per text encoder, [T c]
    deltas   per cross-attention, changes of its key and value weights
    cover    picture and date, which change nothing that it draws
    """

    family: str
    trigger: str
    noun: str
    tokens: Mapping[str, Tensor]
    deltas: Mapping[LayerId, LayerDelta]
    about: Provenance = Provenance()
    cover: Cover = field(default=Cover(), compare=False, repr=False)

    @property
    def phrase(self) -> str:
        """What to write in a prompt: the trigger and the noun."""
        return f"{self.trigger} {self.noun}"

    @property
    def num_tokens(self) -> int:
        """Number of modifier tokens."""
        return int(next(iter(self.tokens.values())).shape[0])

    def weights(self, strength: float = 1.0) -> dict[str, Tensor]:
        """Dense weight changes by LDM state-dict key, fp32, times the strength: add them to the model's weights."""
        return {
            weight_key(layer, part): getattr(delta, part).dense() * strength
            for layer, delta in self.deltas.items()
            for part in PARTS
        }


def pack_deltas(
    whole: Mapping[LayerId, LayerDelta], rank: int | None, precision: str
) -> tuple[dict[LayerId, LayerDelta], Provenance]:
    """The changes at that rank and precision, and a provenance that tells rank, precision and the error of both."""
    if rank is not None and rank < 1:
        raise BadSettings(f"the rank is {rank}", "1 or more was expected", "use 16, or full rank")
    if precision not in PRECISIONS:
        raise BadSettings(f"the precision is {precision}", f"one of {', '.join(PRECISIONS)} was expected", "use fp16")
    short = compress_all(whole, rank) if rank is not None else whole
    kept = {layer: map_tensors(delta, lambda x: x.to(PRECISIONS[precision])) for layer, delta in short.items()}
    factored = all(part.down is not None for delta in kept.values() for part in delta)
    ranks = [part.down.shape[0] for delta in kept.values() for part in delta if part.down is not None]
    about = Provenance(max(ranks) if factored and ranks else None, relative_error(kept, whole), precision)
    return kept, about


def check_trigger(trigger: str) -> None:
    """Nothing, or BadSettings unless the trigger is one plain word."""
    if not trigger or trigger.split() != [trigger] or set(trigger) & set(FORBIDDEN):
        raise BadSettings(
            f'the trigger is "{trigger}"', f"one word without any of {FORBIDDEN} was expected", "choose a plain word"
        )


def check_fit(
    concept: Concept,
    *,
    family: str,
    widths: Widths | None = None,
    token_widths: Mapping[str, int] | None = None,
    base_hash: str | None = None,
) -> None:
    """Nothing, or BadConcept where the concept was made for another kind of model; another base only warns."""
    do = "load the model it was trained on, or train it again on this one"
    if concept.family != family:
        raise BadConcept(f'the concept "{concept.trigger}" is for {concept.family}', f"{family} was expected", do)
    came = {name: rows.shape[1] for name, rows in concept.tokens.items()}
    if token_widths is not None and came != dict(token_widths):
        raise BadConcept(f"the concept's tokens are {came} wide", f"{dict(token_widths)} was expected", do)
    for layer, delta in concept.deltas.items() if widths is not None else ():
        expected = None if widths is None else widths.get(layer)
        for part, change in zip(PARTS, delta, strict=True):
            if expected is None or change.shape != tuple(expected):
                raise BadConcept(
                    f"the concept changes {weight_key(layer, part)} of shape {change.shape}",
                    f"{'no such layer' if expected is None else tuple(expected)} was expected",
                    do,
                )
    if base_hash is not None and concept.about.base_hash not in (None, base_hash):
        log.warning('the concept "%s" was trained on another base model; likeness may suffer', concept.trigger)


def map_tensors(delta: LayerDelta, change: Callable[[Tensor], Tensor]) -> LayerDelta:
    """The same changes with every tensor put through `change`."""
    parts = (Delta(change(p.up), None if p.down is None else change(p.down)) for p in delta)
    return LayerDelta(*parts)


def concept_hash(concept: Concept) -> str:
    """16 hex digits of what a concept draws and how it is called: equal for the same concept, wherever it came from."""
    deltas = {str(tuple(layer)): [tuple(change) for change in delta] for layer, delta in concept.deltas.items()}
    return fingerprint(concept.family, concept.trigger, concept.noun, dict(concept.tokens), deltas)
