"""The command `demo`: one concept learned and drawn, plainly and with DCI; one sheet and one table.

Concept, prompts and seeds are fixed before looking, and every picture counts.
"""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..concept.learned import Concept
from ..errors import BadPicture
from ..families.table import find_family
from ..files import write_bytes
from ..ico.settings import IcoSettings, check_settings
from ..intervals import interval
from ..noise.schedule import spaced_sigmas
from ..pictures.reference import Picture, load_pictures
from ..pictures.saving import save_image
from ..studies.gates.trial import Ask, asks_for, judged, scale_for
from ..tiny.defaults import TINY_DCI, TINY_ICO, TINY_SAMPLE
from ..tiny.judge import Scale, Verdict
from ..tiny.world.concepts import CONCEPTS
from .console import Bar, Console
from .demo_sheet import Note, Row, Summary, draw_sheet
from .places import check_out
from .sampling import Drawn, draw, pair_prompts, plain_prompts, with_concept
from .tiny_world import SmallModel, TinyWorld
from .training import Course, Stopped, encode, learn, start
from .world import write_references

THING = CONCEPTS[0]
KIND = "home"  # all from one place, as the study has them: there plain sampling meets a conflict
AUXILIARY = "cat"
SEEDS = (0, 1, 2, 3)
WAYS = ("plain", "dci")
Scores = NDArray[np.float64]
"""[prompts seeds], each in 0..1"""


@dataclass
class Clock:
    """Seconds by part of the demo."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Adds what passes inside."""
        started = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Shot:
    """One prompt drawn one way, and the judge's word on it."""

    ask: Ask
    drawn: Drawn
    verdict: Verdict


def demo(options: Namespace, console: Console) -> int:
    """Trains, draws, judges; writes the sheet, and the numbers as JSON beside it."""
    sheet = check_out(options.out, (".png",))
    tiny_world, clock = TinyWorld(options.weights), Clock()
    settings = TINY_ICO if options.steps is None else replace(TINY_ICO, steps=options.steps)
    check_settings(settings)
    with clock.time("total"):
        folder = sheet.with_name(f"{sheet.stem}-pictures")
        references = write_and_read(folder)
        scale = scale_for(tiny_world.judge, THING, KIND)
        try:
            with clock.time("train"):
                concept = train(tiny_world, references, settings, sheet, console)
        except Stopped as stopped:
            stopped.kept.unlink(missing_ok=True)
            raise KeyboardInterrupt from stopped
        shots = draw_all(tiny_world, concept, scale, clock, console)
        numbers = measure(shots)
    seconds = {part: round(passed, 1) for part, passed in clock.seconds.items()}
    result = {**numbers, "n": len(SEEDS) * len(shots["plain"]), "seconds": seconds}
    pictures = [picture.pixels for picture in references]
    drawn = draw_sheet(pictures, sheet_rows(tiny_world, shots), summaries(result), concept.noun, result["n"])
    save_image(drawn, sheet)
    write_bytes(sheet.with_suffix(".json"), (json.dumps(result, indent=2) + "\n").encode())
    console.result(result, table(result) + f"\nsheet: {sheet}")
    return 0


def write_and_read(folder: Path) -> list[Picture]:
    """The references, written as PNG files and read as any folder of pictures; raises BadPicture, NotSaved."""
    written = write_references(THING, KIND, folder)
    read = load_pictures(folder, find_family("tiny").picture_size)
    if len(read) != len(written):
        raise BadPicture(
            f'"{folder.name}" holds {len(read)} pictures', f"the demo's own {len(written)} were expected", "empty it"
        )
    return read


def train(
    tiny_world: TinyWorld, references: list[Picture], settings: IcoSettings, sheet: Path, console: Console
) -> Concept:
    """The concept, which stays beside the sheet."""
    out = sheet.with_name(f"{sheet.stem}-concept.safetensors")
    course = Course(settings, THING.thing.noun, f"my{THING.thing.noun}", out)
    data = encode(tiny_world, references)
    return learn(tiny_world, data, start(tiny_world, data, course, resumes=False), course, console)


def draw_all(
    tiny_world: TinyWorld, concept: Concept, scale: Scale, clock: Clock, console: Console
) -> dict[str, list[Shot]]:
    """Every prompt at every seed, both ways, from the same noise."""
    model, asks = with_concept(tiny_world, concept), asks_for(THING)
    steps = len(spaced_sigmas(TINY_SAMPLE.spacing, TINY_SAMPLE.num_steps)) - 1
    shots: dict[str, list[Shot]] = {}
    with console.bar(len(WAYS) * len(asks) * len(SEEDS) * steps, "sampling") as bar:
        for way in WAYS:
            with clock.time(f"sample_{way}"):
                drawn = [draw_one(tiny_world, model, concept, ask, way, bar) for ask in asks]
            pairs = zip(asks, drawn, strict=True)
            shots[way] = [Shot(ask, d, judged(tiny_world.judge, d.pictures, scale, ask)) for ask, d in pairs]
    return shots


def draw_one(tiny_world: TinyWorld, model: SmallModel, concept: Concept, ask: Ask, way: str, bar: Bar) -> Drawn:
    """One prompt at every seed."""
    if way == "plain":
        prompts, dci = plain_prompts(model, concept, ask.template), None
    else:
        prompts, dci = pair_prompts(model, concept, ask.template, AUXILIARY), TINY_DCI
    return draw(
        tiny_world, model, prompts, seeds=SEEDS, settings=TINY_SAMPLE, dci=dci, bar=bar, records_weights=dci is not None
    )


def scores_of(shots: list[Shot], what: str) -> Scores:
    """[prompts seeds] of `likeness` or `prompt_following`."""
    return np.stack([getattr(shot.verdict, what).double().numpy() for shot in shots])


def measure(shots: dict[str, list[Shot]]) -> dict[str, Any]:
    """Means and 95% intervals, per way; `gain` is DCI's minus the plain picture's from the same noise."""
    means: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    whats = ("prompt_following", "likeness")
    scores = {way: {what: scores_of(shots[way], what) for what in whats} for way in WAYS}
    scores["gain"] = {what: scores["dci"][what] - scores["plain"][what] for what in whats}
    for way, found in scores.items():
        means[way] = {what: round(float(values.mean()), 4) for what, values in found.items()}
        intervals[way] = {what: [round(end, 4) for end in by_prompt(values)] for what, values in found.items()}
    return {"plain": means["plain"], "dci": means["dci"], "intervals": intervals}


def by_prompt(scores: Scores) -> tuple[float, float]:
    """The interval of [prompts seeds], prompts drawn again."""
    return interval(scores.ravel().tolist(), np.indices(scores.shape)[0].ravel().tolist())


def summaries(result: dict[str, Any]) -> list[Summary]:
    """The sheet's lines of numbers."""
    names = {"prompt_following": "prompt followed", "likeness": "likeness"}
    return [
        Summary(name, *((result[way][what], *result["intervals"][way][what]) for way in WAYS))
        for what, name in names.items()
    ]


def table(result: dict[str, Any]) -> str:
    """The numbers for people."""
    lines = [f"{'':8}{'prompt followed':>24}{'likeness':>24}    95% intervals, {result['n']} pictures each"]
    for way, name in zip(WAYS, ("plain", "DCI"), strict=True):
        cells = []
        for what in ("prompt_following", "likeness"):
            low, high = result["intervals"][way][what]
            cells.append(f"{result[way][what]:.2f} [{low:.2f}, {high:.2f}]")
        lines.append(f"{name:8}{cells[0]:>24}{cells[1]:>24}")
    low, high = result["intervals"]["gain"]["prompt_following"]
    like_low, like_high = result["intervals"]["gain"]["likeness"]
    lines.append(f"{'gain':8}{f'[{low:+.2f}, {high:+.2f}]':>24}{f'[{like_low:+.2f}, {like_high:+.2f}]':>24}")
    lines.append(f"seconds: {', '.join(f'{part} {passed:.0f}' for part, passed in result['seconds'].items())}")
    return "\n".join(lines)


def sheet_rows(tiny_world: TinyWorld, shots: dict[str, list[Shot]]) -> list[Row]:
    """The sheet's row of each prompt."""
    rows = []
    for plain, dci in zip(shots["plain"], shots["dci"], strict=True):
        assert dci.drawn.auxiliary is not None  # the demo's window is open
        notes = {way: [note(shot, i) for i in range(len(SEEDS))] for way, shot in (("plain", plain), ("dci", dci))}
        pictures = {"plain": plain.drawn.pictures, "dci": dci.drawn.pictures}
        rows.append(
            Row(plain.ask.template, plain.ask.is_low_prior, pictures, notes, dci.drawn.auxiliary[0], maps_of(dci.drawn))
        )
    return rows


def note(shot: Shot, i: int) -> Note:
    """The judge's word on picture i: "place", or the second object's name, and whether it is there."""
    asked = shot.ask.asked
    found = {
        question if question == "place" else asked[question]: bool(right[i])
        for question, right in shot.verdict.asked.items()
    }
    return float(shot.verdict.likeness[i]), found


def maps_of(drawn: Drawn) -> dict[int, Tensor]:
    """Per side of the layers' grid, largest first, the first picture's weights: mean over layers and steps, [h w]."""
    found: dict[int, list[Tensor]] = {}
    for one in drawn.weights:
        found.setdefault(one.weights.shape[-1], []).append(one.weights[0])
    return {side: sum(found[side], start=found[side][0] * 0) / len(found[side]) for side in sorted(found, reverse=True)}
