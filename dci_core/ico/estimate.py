"""What a training will need, told before it begins: memory, disk, and time once a few steps have run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..concept.learned import DEFAULT_RANK
from ..errors import NotSaved
from .state import TrainState
from .train import StepReport

FLOAT_BYTES, HALF_BYTES = 4, 2
COPIES_TRAINING, COPIES_RESUME = 4, 3  # parameter, gradient and AdamW's two moments; the gradient is not saved
SPARE_BYTES = 1 << 20  # headers, metadata, the file system's own
WARM_UP_REPORTS = 1  # the first step also pays for start-up


@dataclass(frozen=True)
class Needs:
    """Bytes that a training takes on top of the model.

    memory   learned parameters with gradient and optimiser
    resume   the file that `save_state` writes
    concept  the file that `save_concept` writes, in fp16
    """

    memory: int
    resume: int
    concept: int


def needs_of(state: TrainState, rank: int | None = DEFAULT_RANK) -> Needs:
    """The needs of a training and of its concept at that rank."""
    learned = sum(p.numel() for p in state.learned.parameters())
    deltas = state.learned.deltas
    shapes = [delta.shape for layer in deltas.layers for delta in deltas.of_layer(layer)]
    kept = rank or state.settings.rank
    changes = sum(inner * context if kept is None else kept * (inner + context) for inner, context in shapes)
    tokens = sum(rows.numel() for rows in state.learned.text.tokens.values())
    concept = changes * HALF_BYTES + tokens * FLOAT_BYTES + SPARE_BYTES
    return Needs(learned * FLOAT_BYTES * COPIES_TRAINING, learned * FLOAT_BYTES * COPIES_RESUME + SPARE_BYTES, concept)


def check_room(folder: Path, needed_bytes: int) -> None:
    """Nothing, or NotSaved where the folder is missing or its disk has less free than that."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise NotSaved(
            f'the folder "{folder.absolute()}" cannot be used ({error.strerror or error})',
            "an existing folder was expected",
            "create it or choose another",
        ) from error
    if free < needed_bytes:
        raise NotSaved(
            f'the disk of "{folder.absolute()}" has {free / 1e6:.0f} MB free',
            f"{needed_bytes / 1e6:.0f} MB were expected",
            "make room on it, or use a folder on another disk",
        )


def seconds_left(reports: Sequence[StepReport]) -> float | None:
    """Time for the steps that remain, from those done in this run; None before there are two."""
    timed = reports[WARM_UP_REPORTS:]
    if not timed:
        return None
    return sum(r.seconds for r in timed) / len(timed) * (timed[-1].steps - timed[-1].step)


def rounds_left(every: int, step: int, steps: int) -> int:
    """Rounds of samples behind this step and later ones: after every so many steps (0: none) and after the last."""
    if not every:
        return 0
    is_extra = steps % every != 0  # the last step has its round whatever its number
    return steps // every - (step - 1) // every + is_extra
