"""From a training to the concept that it has reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..attention.layers import LayerId
from ..concept.cover import made_now
from ..concept.deltas import LayerDelta
from ..concept.learned import DEFAULT_RANK, Concept, check_trigger, map_tensors, pack_deltas
from .state import TrainState

LAST_LOSSES = 50  # steps in the mean of the loss summary


def make_concept(
    state: TrainState,
    *,
    trigger: str,
    rank: int | None = DEFAULT_RANK,
    precision: str = "fp16",
    base_hash: str | None = None,
    clip_layer: int | None = None,
    size_conditioning: Mapping[str, int] | None = None,
    picture: bytes | None = None,
) -> Concept:
    """The concept that a training has reached, contexts dropped; the training itself is not touched.

    rank     factors to keep of each change, or None for full rank; `about.error` tells what that costs
    picture  of the concept, a small JPEG file, or None
    """
    check_trigger(trigger)
    deltas, about = pack_deltas(trained_deltas(state), rank, precision)
    about = replace(
        about,
        settings=state.settings.public(),
        loss=summarise(state.losses),
        base_hash=base_hash,
        clip_layer=clip_layer,
        prediction=state.prediction,
        size_conditioning=size_conditioning,
    )
    tokens = {name: rows.detach().cpu().clone() for name, rows in state.learned.text.tokens.items()}
    return Concept(state.family, trigger, state.noun, tokens, deltas, about, made_now(picture))


def trained_deltas(state: TrainState) -> dict[LayerId, LayerDelta]:
    """A copy of the weight changes that a training has reached, on the CPU."""
    learned = state.learned.deltas
    return {layer: map_tensors(learned.of_layer(layer), lambda x: x.detach().cpu().clone()) for layer in learned.layers}


def summarise(losses: list[float]) -> dict[str, float]:
    """First, last and mean of the last losses; empty before the first step."""
    if not losses:
        return {}
    last = losses[-LAST_LOSSES:]
    return {"steps": len(losses), "first": losses[0], "last": losses[-1], "mean_of_last": sum(last) / len(last)}
