"""The whole study: which cells there are, which lessons they need, and carrying them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import BadSettings
from ...fingerprint import as_data
from ...tiny.defaults import TINY_DCI, UNET
from ..worlds import PARTS
from . import (
    study_anatomy,
    study_choice,
    study_claim,
    study_dial,
    study_equal,
    study_forms,
    study_inference,
    study_judge,
    study_layout,
    study_stop,
    study_training,
)
from .cells import Bench, Cell, key_of
from .crew import Job, Tools, Tools_contra, work
from .dials import AUXILIARY
from .ground import Lesson, Shelf, hash_files
from .protocol import Ground, Size
from .store import Store

CLAIM = "claim"
STUDIES = {
    **{"a": "training", "b": "inference", "c": "anatomy", "judge": "judge"},
    **{"choice": "choice", "forms": "forms", "dial": "dial", "layout": "layout"},
    **{"equal": "equal", "stop": "stop", CLAIM: "claim"},
}
USUAL = "a,b,c,judge"  # `choice` came before them: its result stands in the defaults
TOGETHER = 4  # concepts whose lessons and cells are done before the next ones': what is stopped is done for some
LESSON_STEP = 20  # a training step takes as long as so many rows of sampling
JUDGE_PARTS = (*PARTS[UNET], "judge")


class Piece(Job[Tools_contra], Protocol[Tools_contra]):
    """A job that says what it costs."""

    @property
    def cost(self) -> int:
        """Rows times steps of the model, about."""


@dataclass(frozen=True)
class Plan:
    """What is asked for. studies: letters of STUDIES, in their order."""

    size: Size
    ground: Ground
    studies: tuple[str, ...]

    def cells(self) -> dict[str, Cell]:
        """Every cell by its key; one that several studies want stands here once."""
        wanted: list[Cell] = []
        for letter in self.studies:
            wanted += cells_of(letter, self.size, self.ground)
        return {key_of(cell): cell for cell in wanted}

    def about(self, weights: Path) -> dict[str, Any]:
        """What a resumed study must share with this one."""
        return {
            "size": as_data(self.size),
            "ground": as_data(self.ground),
            "dci": as_data(TINY_DCI),
            "auxiliary": AUXILIARY,
            "weights": hash_files(weights, JUDGE_PARTS),
        }


class Planned(Protocol):
    """A plan of either small world."""

    def cells(self) -> dict[str, Cell]:
        """Every cell by its key."""


def cells_of(letter: str, size: Size, ground: Ground) -> list[Cell]:
    """One study's cells."""
    makers: dict[str, Callable[[Size, Ground], Sequence[Cell]]] = {
        "a": study_training.cells,
        "b": study_inference.cells,
        "c": lambda size, ground: [*study_anatomy.cells(size, ground), *study_anatomy.springs(size, ground)],
        "judge": study_judge.cells,
        "choice": study_choice.cells,
        "forms": study_forms.cells,
        "dial": study_dial.cells,
        "layout": study_layout.cells,
        "equal": study_equal.cells,
        "stop": study_stop.cells,
        CLAIM: study_claim.cells,
    }
    return [*makers[letter](size, ground)]


def read_studies(text: str, studies: Mapping[str, str] = STUDIES) -> tuple[str, ...]:
    """`a,c` as ("a", "c"), some of these studies by name; raises BadSettings for a name that is none."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in studies]
    if unknown or not names:
        came = f"the study {unknown[0]!r} was asked for" if unknown else "no study was named"
        told = ", ".join(f"{name} ({what})" for name, what in studies.items())
        raise BadSettings(came, f"some of {told} were expected", "change --study")
    return tuple(name for name in studies if name in names)


def lessons(cells: Iterable[Cell]) -> list[Lesson]:
    """Each training once, with all the steps that the cells want, longest first."""
    wanted: dict[tuple[int, str], Lesson] = {}
    for cell in cells:
        need = cell.lesson
        if need is not None:
            key = (need.concept, repr(need.training))
            before = wanted[key].steps if key in wanted else ()
            wanted[key] = Lesson(need.concept, need.training, tuple(sorted({*before, *need.steps})))
    return sorted(wanted.values(), key=lambda lesson: -lesson.steps[-1])


@dataclass(frozen=True)
class Work:
    """What is still to be done."""

    lessons: Sequence[Lesson]
    cells: Sequence[tuple[str, Cell]]
    shelf: Shelf

    @property
    def cost(self) -> int:
        """In rows times steps of the U-Net, about."""
        return sum(map(self.lesson_cost, self.lessons)) + sum(cell.cost for _, cell in self.cells)

    def lesson_cost(self, lesson: Lesson) -> int:
        """One lesson's share."""
        return self.shelf.cost(lesson) * LESSON_STEP

    def parts(self) -> Iterator[Work]:
        """A few concepts after the others, each with what needs it; what needs no lesson comes last."""
        owners = [None if cell.lesson is None else cell.lesson.concept for _, cell in self.cells]
        concepts = sorted({owner for owner in owners if owner is not None})
        groups: list[set[int | None]] = [set(concepts[i : i + TOGETHER]) for i in range(0, len(concepts), TOGETHER)]
        groups.append({None})
        for group in groups:
            cells = [cell for cell, owner in zip(self.cells, owners, strict=True) if owner in group]
            lessons = [lesson for lesson in self.lessons if lesson.concept in group]
            if cells:
                yield Work(lessons, cells, self.shelf)


def still_to_do(plan: Planned, store: Store, shelf: Shelf) -> Work:
    """The cells without a result, and the lessons that they need and that are not there."""
    open_cells = [(key, cell) for key, cell in plan.cells().items() if key not in store.results]
    open_cells.sort(key=lambda pair: repr(pair[1].lesson))  # so that a worker seldom changes its model
    needed = [lesson for lesson in lessons(cell for _, cell in open_cells) if shelf.missing(lesson)]
    return Work(needed, open_cells, shelf)


def carry_out(todo: Work, bench: Bench, store: Store, workers: int) -> Iterator[int]:
    """Does it all; yields each finished piece's cost. Stopped at any time, what is finished stays."""
    for part in todo.parts():
        costs = [part.lesson_cost(lesson) for lesson in part.lessons]
        for i, _ in work(bench, part.lessons, workers):
            yield costs[i]
        yield from play_cells(part.cells, bench, store, workers)


def play_cells(cells: Sequence[tuple[str, Piece[Tools]]], bench: Tools, store: Store, workers: int) -> Iterator[int]:
    """Plays the cells and keeps their numbers under their keys; yields each one's cost as it ends."""
    for i, numbers in work(bench, [cell for _, cell in cells], workers):
        key, cell = cells[i]
        store.keep(key, numbers)
        yield cell.cost
