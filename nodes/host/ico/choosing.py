"""What a training's settings leave to the model and the card: precision, rank, and how a step is split into passes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ....dci_core.families.family import Family
from ....dci_core.ico.memory import AS_SET, Weights, cost_of, split_for, split_settings
from ....dci_core.ico.rank import choose_rank, rank_rate
from ....dci_core.ico.state import family_widths
from .lessons import Lesson
from .residence import chosen_precision

log = logging.getLogger(__name__)


def chosen(model: Any, lesson: Lesson, family: Family) -> Lesson:
    """The lesson whose settings hold the precision and the rank that were chosen for this MODEL. Raises BadSettings."""
    settings = replace(lesson.settings, precision=chosen_precision(model, lesson.precision))
    if lesson.rank is not None:
        widths = family_widths(family.name)
        rank = choose_rank(lesson.rank, widths)
        settings = replace(settings, rank=rank, rank_rate=rank_rate(rank, widths))
    return replace(lesson, settings=settings)


def fitted(lesson: Lesson, family: Family, weights: Callable[[], Weights]) -> Lesson:
    """The lesson whose passes fit on the card that was asked for, with the same pictures in an update.

    weights  counts those of MODEL and CLIP

    Raises BadSettings where nothing fits.
    """
    if lesson.memory == AS_SET or cost_of(family.name) is None:
        return lesson
    widths, size_px = family_widths(family.name), lesson.size_px or family.picture_size
    split = split_for(lesson.memory, lesson.settings, family.name, widths, weights(), size_px)
    if split is None:
        return lesson
    log.info(
        "memory %s: passes of %d pictures, %d to an update, text encoders on the %s: about %.1f GiB on the card",
        lesson.memory, split.batch, split.accumulation, "CPU" if split.text_on_cpu else "card", split.total / 2**30,
    )  # fmt: skip
    return replace(lesson, settings=split_settings(lesson.settings, split), text_on_cpu=split.text_on_cpu)
