"""What a training's settings leave to the model and the card: precision, rank, and how a step is split into passes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ....dci_core.errors import BadSettings
from ....dci_core.families.family import Family
from ....dci_core.ico.memory import (
    AS_SET,
    GIB,
    Weights,
    cost_of,
    learned_bytes,
    split_for,
    split_settings,
    step_bytes,
)
from ....dci_core.ico.rank import choose_rank, rank_rate
from ....dci_core.ico.state import family_widths
from ..page.live import note
from ..tiny.words import SMALL_WORLDS
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


def fitted(lesson: Lesson, family: Family, weights: Callable[[], Weights], device: torch.device) -> Lesson:
    """The lesson whose passes fit on the card that was asked for, with the same pictures in an update; where none was
    asked for, the lesson itself, and a word on what the device has no room for.

    weights  counts those of MODEL and CLIP, as far as they are on the device

    Raises BadSettings where nothing fits.
    """
    widths, size_px = family_widths(family.name), lesson.size_px or family.picture_size
    if lesson.memory == AS_SET:
        check_room_on(device, lesson, family, weights(), size_px)
        return lesson
    if cost_of(family.name) is None:
        if family.name not in SMALL_WORLDS:
            note(
                f"what a step on {family.name} takes has not been counted: memory {lesson.memory} leaves batch, "
                "accumulation and text encoders as set"
            )
        return lesson
    split = split_for(lesson.memory, lesson.settings, family.name, widths, weights(), size_px)
    if split is None:
        return lesson
    log.info(
        "memory %s: passes of %d pictures, %d to an update, text encoders on the %s: about %.1f GiB on the card",
        lesson.memory, split.batch, split.accumulation, "CPU" if split.text_on_cpu else "card", split.total / 2**30,
    )  # fmt: skip
    return replace(lesson, settings=split_settings(lesson.settings, split), text_on_cpu=split.text_on_cpu)


def check_room_on(device: torch.device, lesson: Lesson, family: Family, weights: Weights, size_px: int) -> None:
    """Raises BadSettings where a device has not the memory for weights and what is learned; says so where it has not
    that for a step, by count.
    """
    from comfy.model_management import get_total_memory

    widths, cost, there = family_widths(family.name), cost_of(family.name), get_total_memory(device)
    held = weights.unet + weights.text + learned_bytes(widths, lesson.settings.rank)
    if held > there:
        raise BadSettings(
            f"the weights of MODEL and CLIP and what is learned take {held / GIB:.1f} GiB",
            f"at most the {there / GIB:.1f} GiB of {device} are expected",
            "set memory to your card, which keeps the text encoders on the CPU where they have no room, or load the "
            "model with smaller weights",
        )
    if cost is None:
        return
    total = step_bytes(cost, lesson.settings, widths, weights, size_px, text_on_cpu=False)
    if total > there:
        note(
            f"by count a step takes {total / GIB:.1f} GiB, models included, and {device} has {there / GIB:.1f}: it may "
            "run out of memory; set memory to your card, lower batch or size_px, or set prior to none"
        )
