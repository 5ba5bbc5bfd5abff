"""Kept trainings: under what name each lies, which one goes on, and which ones go away."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....dci_core.concept.learned import concept_hash
from ....dci_core.errors import PackError
from ....dci_core.families.family import Family
from ....dci_core.files import read_header
from ....dci_core.fingerprint import short_hash
from ....dci_core.names import as_part
from .. import folders
from ..concept.identity import PREFIX, all_patches_hash, base_hash, patches_hash, sampling_hash, weights_hash
from .lessons import Lesson, training_facts

log = logging.getLogger(__name__)
MOST_KEPT, MOST_DAYS = 8, 60  # training files beyond these go away; the newest never does
ENDING = ".training"


@dataclass(frozen=True)
class Kept:
    """Where one training lies.

    concept   its finished concept: of these steps, with this trigger and rank
    training  what it goes on from, as this run writes it
    key       of everything that changes what is learned; more steps, another trigger and rank share it
    older     where the pack's first version would have left it unfinished
    """

    concept: Path
    training: Path
    key: str
    older: Path

    def candidates(self, steps: int) -> list[Path]:
        """Files of this very training at no more than so many steps, the furthest first."""
        found = []
        for path in [*self.training.parent.glob(f"*-{self.key}-*{ENDING}"), self.older]:
            step = step_of(path)
            if step is not None and step <= steps:
                found.append((step, path == self.training, path))
        return [path for *_, path in sorted(found, reverse=True)]


def kept_at(model: Any, clip: Any, vae: Any, lesson: Lesson, family: Family) -> Kept:
    """Where this training is kept; the lesson's settings are those that it really has."""
    text, codec = clip.patcher, vae.patcher
    inputs = (
        weights_hash(model, PREFIX), all_patches_hash(model), sampling_hash(model),
        weights_hash(text), all_patches_hash(text), clip.layer_idx,
        weights_hash(codec), all_patches_hash(codec), type(vae.first_stage_model).__name__,
    )  # fmt: skip
    key = short_hash([repr((inputs, training_facts(lesson, family))).encode()])
    name, steps = as_part(lesson.trigger), lesson.settings.steps
    start = "" if lesson.start is None else concept_hash(lesson.start)
    older = lesson.first_key((base_hash(model, family) or "") + patches_hash(model) + start)
    place = concept_at(key, steps, lesson)
    return Kept(
        place,
        place.with_name(f"{name}-{key}-{steps}{ENDING}"),
        key,
        place.with_name(f"{name}-{older}{ENDING}"),
    )


def concept_at(key: str, steps: int, lesson: Lesson) -> Path:
    """Where the finished concept of so many steps of a training lies, with the lesson's trigger and rank."""
    own = short_hash([repr((key, steps, lesson.trigger, lesson.keep_rank)).encode()])
    return folders.new_path(f"trained/{as_part(lesson.trigger)}-{own}")


def step_of(path: Path) -> int | None:
    """Finished steps of a training file; None where it is none, or cannot be read."""
    try:
        return int(json.loads(read_header(path, "training file")["__metadata__"]["about"])["step"])
    except (PackError, KeyError, ValueError, TypeError):
        return None


def tidy(folder: Path, in_use: Sequence[Path] = (), now: float | None = None, ending: str = ENDING) -> list[Path]:
    """Training files that are too old or too many are removed, each with a word in the log; returns them.

    in_use  files that stay, beside the newest one
    """
    now = time.time() if now is None else now
    dated = sorted(((path.stat().st_mtime, path) for path in folder.glob(f"*{ending}")), reverse=True)
    removed = []
    for place, (changed, path) in enumerate(dated):
        days = (now - changed) / 86400
        if place == 0 or path in in_use or (place < MOST_KEPT and days <= MOST_DAYS):
            continue
        try:
            path.unlink()
        except OSError as error:
            log.info("the old training %s cannot be removed (%s)", path.name, error.strerror)
            continue
        log.info(
            "removed the training %s, %.0f days old: %d are kept, for %d days", path.name, days, MOST_KEPT, MOST_DAYS
        )
        removed.append(path)
    return removed


def remove_passed(path: Path, training: Path) -> None:
    """An unfinished file goes away once the training that went on from it stands further, under another name."""
    before, after = step_of(path), step_of(training)
    if path == training or before is None or after is None or before >= after:
        return
    if f"-{before}{ENDING}" not in path.name:  # one that reached its own end can still be cut anew
        path.unlink(missing_ok=True)
