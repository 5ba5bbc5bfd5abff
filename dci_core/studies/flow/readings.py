"""The gates' numbers of the small flow world, from the finished cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...tiny.readings import Reading, reading
from ..dci.cells import key_of
from ..dci.judging import BaseCell
from ..dci.tables import Results, Row
from ..gates.concepts import LEAST_LIKENESS
from .gates import MAP_TIMES, MapCell, PlaceCell, ToldCell
from .protocol import CONFLICT, FlowSize

HOME_PROMPT = 0  # of the eight: alone in the home place


def readings(size: FlowSize, results: Results, rows: Sequence[Row]) -> list[Reading]:
    """Every number; gates 0 and 1 of tuned concepts where their plain pictures were drawn.

    rows  of the dials' study, or none
    """
    return [*base_readings(size, results), *map_readings(results), *concept_readings(rows)]


def base_readings(size: FlowSize, results: Results) -> Iterator[Reading]:
    """What the base draws when told in words, and when it decides where."""
    told = results[key_of(ToldCell(size.plain, size.gate_seeds))]
    base = results[key_of(BaseCell(size.plain, size.gate_seeds))]
    place = results[key_of(PlaceCell(size.plain, size.gate_seeds))]
    yield reading("0 cheap", "likeness of the base told the look in words, mean of 20", told["likeness"], 0.8)
    yield reading("0 cheap", "base draws an asked companion, share", told["companion"], 0.8)
    for question, value in base.items():
        least = 0.9 if question == "place" else None
        yield reading("1", f"base draws the asked {question} of ordinary nouns, share", value, least)
    half = next((time for time, share in zip(place["times"], place["right"], strict=True) if share >= 0.5), 0.0)
    yield reading("4", "time at which the predicted picture has the place right half the time", half)


def map_readings(results: Results) -> Iterator[Reading]:
    """Whether the noun's map lies on the object, at each time and in each block."""
    for time in MAP_TIMES:
        found = results[key_of(MapCell(time))]
        yield reading("2", f"noun's map against the object's mask at time {time:g}, area under ROC", found["all"], 0.85)
        for block, value in found.items():
            if block != "all":
                yield reading("2", f"time {time:g}, block {block}", value)


def concept_readings(rows: Sequence[Row]) -> Iterator[Reading]:
    """Gates 0 and 1: whether concepts are learned, and whether plain sampling then has a conflict."""
    plain = next((row for row in rows if row.group == "plain"), None)
    if plain is None or plain.low_prior is None:
        return
    home = plain.scores.likeness[:, HOME_PROMPT].mean(axis=-1)
    share = float(np.mean(home >= LEAST_LIKENESS))
    yield reading("0", f"share of {len(home)} concepts with likeness >= 0.7 at home", share, 0.75)
    both = float(plain.low_prior.both.mean())
    what = "low-prior pictures with likeness >= 0.7 and all that was asked, references from home"
    low, high = CONFLICT
    yield Reading("1", what, both, f"{low:g} to {high:g}", low <= both <= high)
