"""Concepts learned for the study, checkpoint by checkpoint, kept on disk under the hash of all that made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from ...concept.file import load_concept, save_concept
from ...concept.learned import Concept
from ...errors import BadConcept, BadSettings
from ...fingerprint import short_hash
from ...ico.checkpoint import load_state, save_state
from ...ico.result import make_concept
from ...ico.train import train_steps
from ...tiny.world.concepts import OBJECTS
from ..gates.concepts import begin, rare_tokens
from ..worlds import SmallWorld
from .judge_scores import Numbers
from .protocol import Training


def hash_of(*facts: object) -> str:
    """16 hex digits of plain data."""
    return short_hash([json.dumps(facts, sort_keys=True, default=str).encode()])


def hash_files(folder: Path, names: Sequence[str]) -> str:
    """16 hex digits of these weights of the small world."""
    return hash_paths([folder / f"{name}.safetensors" for name in names])


def hash_paths(paths: Sequence[Path]) -> str:
    """16 hex digits of what these files hold."""
    return short_hash(path.read_bytes() for path in paths)


class School(Protocol):
    """What a lesson needs of a worker's tools."""

    @property
    def shelf(self) -> Shelf:
        """Where checkpoints go."""

    @property
    def world(self) -> SmallWorld:
        """The model that learns, and its codec."""


@dataclass(frozen=True)
class Lesson:
    """One concept trained one way, to be kept at these steps."""

    concept: int
    training: Training
    steps: tuple[int, ...]

    def play(self, bench: School) -> Numbers:
        """Learns it; the checkpoints stand on the shelf, and there are no numbers."""
        bench.shelf.teach(bench.world, self)
        return {}


@dataclass(frozen=True)
class Shelf:
    """Where the checkpoints lie.

    weights  hash of the world's weights: another world's concepts are never taken
    family   of the model that learns
    """

    folder: Path
    weights: str
    family: str = "tiny"

    def place(self, concept: int, training: Training) -> Path:
        """The folder of one training."""
        ico = replace(training.ico, steps=1)
        name = hash_of(self.weights, concept, training.kind, asdict(ico))
        return self.folder / f"{OBJECTS[concept].name}-{training.kind}-{name}"

    def path(self, concept: int, training: Training, step: int) -> Path:
        """One checkpoint's file."""
        return self.place(concept, training) / f"step-{step:05d}.safetensors"

    def missing(self, lesson: Lesson) -> tuple[int, ...]:
        """The steps that are not there yet, rising."""
        paths = {step: self.path(lesson.concept, lesson.training, step) for step in lesson.steps}
        return tuple(sorted(step for step, path in paths.items() if not path.exists()))

    def cost(self, lesson: Lesson) -> int:
        """Training steps still to be done."""
        missing = self.missing(lesson)
        if not missing:
            return 0
        done = [int(p.stem[5:]) for p in self.place(lesson.concept, lesson.training).glob("step-*.safetensors")]
        below = [step for step in done if step < missing[0]]
        return missing[-1] - (max(below) if below and max(below) == max(done) else 0)

    def load(self, concept: int, training: Training, step: int) -> Concept:
        """The concept at that step; raises BadConcept."""
        return load_concept(self.path(concept, training, step), family=self.family)

    def teach(self, world: SmallWorld, lesson: Lesson) -> None:
        """Every step of the lesson stands on the shelf; goes on from where an earlier lesson ended, if it can."""
        missing = self.missing(lesson)
        if not missing:
            return
        place, settings = self.place(lesson.concept, lesson.training), replace(lesson.training.ico, steps=missing[-1])
        place.mkdir(parents=True, exist_ok=True)
        thing = OBJECTS[lesson.concept]
        data, state = begin(world, thing, lesson.training.kind, settings)
        kept, rare = place / "state.safetensors", rare_tokens(world.model, settings)
        if kept.exists():
            try:
                older = load_state(kept, world.model, data, settings, noun=state.noun, rare_tokens=rare)
            except (BadConcept, BadSettings):
                older = state  # damaged: begin again, the result is the same
            state = older if older.step < missing[0] else state
        for report in train_steps(world.model, data, state):
            if report.step in missing:
                save_concept(make_concept(state, trigger=f"my{state.noun}"), self.path_of(lesson, report.step))
        save_state(state, kept)

    def path_of(self, lesson: Lesson, step: int) -> Path:
        """One checkpoint of a lesson."""
        return self.path(lesson.concept, lesson.training, step)
