"""Training on from a finished concept: what it has learned is where the new training begins."""

from __future__ import annotations

import torch

from ..attention.layers import LayerId
from ..concept.compress import compress_all
from ..concept.deltas import Delta, LayerDelta
from ..concept.learned import Concept, check_fit
from ..errors import BadSettings
from .state import TrainState, family_widths


def start_from(state: TrainState, concept: Concept) -> None:
    """Puts the concept's tokens and weight changes into a training at step 0; its contexts were never kept.

    A lower training rank keeps the best factors of that many. Raises BadConcept for another kind of model, BadSettings
    for another number of modifier tokens or a training that has begun.
    """
    text, deltas = state.learned.text, state.learned.deltas
    if state.step:
        raise BadSettings(f"the training has {state.step} steps", "one at its beginning was expected", "begin it anew")
    widths = {name: rows.shape[1] for name, rows in text.tokens.items()}
    check_fit(concept, family=state.family, widths=family_widths(state.family), token_widths=widths)
    if concept.num_tokens != state.settings.modifier_tokens:
        raise BadSettings(
            f"the concept to start from has {concept.num_tokens} modifier tokens",
            f"{state.settings.modifier_tokens} are expected by this training",
            f"set modifier_tokens to {concept.num_tokens}",
        )
    rank = state.settings.rank
    with torch.no_grad():
        for name, rows in concept.tokens.items():
            text.tokens[name].copy_(rows)
        for layer, change in (concept.deltas if rank is None else shortened(concept, rank)).items():
            for mine, theirs in zip(deltas.of_layer(layer), change, strict=True):
                fill(mine, theirs)


def shortened(concept: Concept, rank: int) -> dict[LayerId, LayerDelta]:
    """The concept's changes, each with at most so many factors."""
    is_short = all(
        delta.down is not None and delta.down.shape[0] <= rank for change in concept.deltas.values() for delta in change
    )
    return dict(concept.deltas) if is_short else dict(compress_all(concept.deltas, rank))


def fill(mine: Delta, theirs: Delta) -> None:
    """Makes a trained change equal to a concept's; factors that are left over do nothing yet, and learn."""
    if mine.down is None:
        mine.up.copy_(theirs.dense())
        return
    assert theirs.down is not None
    count = theirs.down.shape[0]
    mine.up.zero_()
    mine.up[:, :count].copy_(theirs.up)
    mine.down[:count].copy_(theirs.down)
