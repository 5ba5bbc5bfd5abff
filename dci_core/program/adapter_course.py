"""Adapter training with a bar, saved as it goes: stopped at any step, it goes on exactly from there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ..dynaip.adapter import Adapter, AdapterParams
from ..dynaip.adapter_file import save_adapter
from ..dynaip.training.base import FlowBase
from ..dynaip.training.checkpoint import load_training, save_training
from ..dynaip.training.crew import Crew
from ..dynaip.training.pairs import PairSource
from ..dynaip.training.settings import AdapterSettings
from ..dynaip.training.sheet import check_pairs, draw_check, measure
from ..dynaip.training.state import AdapterTraining, averaged, begin_training, new_adapter
from ..dynaip.training.steps import train_adapter
from ..errors import BadSettings, NotSaved, TrainingDiverged
from ..ico.estimate import COPIES_RESUME, FLOAT_BYTES, SPARE_BYTES, check_room
from ..pictures.saving import save_image
from .console import Console
from .interrupt import gentle_stop
from .training import KEPT_SUFFIX, Stopped, check_unfinished

SHEET_ROWS = 4


@dataclass(frozen=True)
class AdapterCourse:
    """One training: how, where it is kept, how often it is shown.

    save_every   updates between two saves of the unfinished training
    sheet_every  updates between two validation sheets; 0: none
    workers      processes that make pairs ahead of time
    precision    of the numbers in the adapter's file
    """

    settings: AdapterSettings
    params: AdapterParams
    out: Path
    save_every: int = 500
    sheet_every: int = 500
    workers: int = 0
    precision: str = "bf16"

    @property
    def kept(self) -> Path:
        """Where the unfinished training stands."""
        return self.out.with_name(self.out.stem + KEPT_SUFFIX)

    def sheet(self, step: int) -> Path:
        """Where the sheet after that many updates stands."""
        return self.out.with_name(f"{self.out.stem}-step{step:06d}.png")


def check_course(course: AdapterCourse, *, resumes: bool, restarts: bool) -> None:
    """Nothing, or BadSettings for a number that cannot work and for an unfinished training missing or in the way."""
    for name, least in (("save_every", 1), ("sheet_every", 0), ("workers", 0)):
        if getattr(course, name) < least:
            words = name.replace("_", " ")
            raise BadSettings(f"{words} is {getattr(course, name)}", f"{least} or more was expected", f"change {words}")
    check_unfinished(course.kept, resumes=resumes, restarts=restarts)


def start_adapter(
    base: FlowBase,
    source: PairSource,
    course: AdapterCourse,
    crew: Crew,
    *,
    resumes: bool,
    adapter: Adapter | None = None,
) -> AdapterTraining:
    """A training at its beginning or where it was stopped; it stands on disk, with room for the rest.

    adapter  what it begins from, of the course's shape; None: an untrained one
    """
    adapter = adapter or new_adapter(course.params, course.settings.seed)
    training = begin_training(base, adapter, source, course.settings, crew)
    numbers = sum(p.numel() for p in training.learned.values())
    if resumes:
        load_training(course.kept, training)
    if crew.is_main:  # learned, average and two moments; a save stands beside the older one for a moment
        check_room(course.out.parent, 2 * (COPIES_RESUME + 1) * numbers * FLOAT_BYTES + SPARE_BYTES)
    if not resumes:
        save_training(training, course.kept, crew)
    return training


def learn_adapter(
    base: FlowBase, source: PairSource, training: AdapterTraining, course: AdapterCourse, crew: Crew, console: Console
) -> float:
    """The mean of the last losses; the adapter is saved. Raises Stopped after Ctrl-C in any process, NotSaved,
    TrainingDiverged; nothing is lost by any."""
    shown = console if crew.is_main else Console(is_silent=True)
    with shown.bar(course.settings.steps, "training", training.step) as bar, gentle_stop() as stop:
        try:
            for report in train_adapter(base, source, training, crew, workers=course.workers):
                bar.set_postfix_str(f"loss {training.loss:.4f}", refresh=False)
                bar.update()
                if crew.any(stop.asked):
                    break
                if report.step % course.save_every == 0:
                    save_training(training, course.kept, crew)
                if course.sheet_every and report.step % course.sheet_every == 0:
                    show_sheet(base, source, training, course, crew)
        except TrainingDiverged as error:
            save_training(training, course.kept, crew)
            do = f'lower the learning rate and begin anew; "{course.kept.name}" holds the training as it was before'
            raise TrainingDiverged(error.came, error.expected, do) from error
    save_training(training, course.kept, crew)
    if training.step < course.settings.steps:
        raise Stopped(training, course.kept)
    return finish_adapter(training, course, crew)


def finish_adapter(training: AdapterTraining, course: AdapterCourse, crew: Crew) -> float:
    """The moving average saved as the adapter, the unfinished training's file gone; returns the last losses' mean."""
    adapter = averaged(training)
    if crew.is_main:
        try:
            save_adapter(adapter, course.out, precision=course.precision, training=about(training, course))
        except NotSaved as error:
            do = f'make room there, then go on from "{course.kept.name}" with --resume'
            raise NotSaved(error.came, error.expected, do) from error
        course.kept.unlink(missing_ok=True)
    crew.wait()
    return training.loss


def about(training: AdapterTraining, course: AdapterCourse) -> dict[str, object]:
    """What the adapter's file tells of its training."""
    return {**asdict(course.settings), "base": training.base, "data": training.data, "loss": training.loss}


def show_sheet(
    base: FlowBase, source: PairSource, training: AdapterTraining, course: AdapterCourse, crew: Crew
) -> None:
    """The validation sheet, drawn by the first process with the moving average while the others wait."""
    adapter = averaged(training)
    if crew.is_main:
        pairs = check_pairs(source, SHEET_ROWS)
        title = f"step {training.step} of {course.settings.steps}, loss in training {training.loss:.4f}"
        with crew.autocast():
            check = measure(base, adapter, pairs, course.settings)
            sheet = draw_check(base, adapter, pairs, title, check)
        save_image(sheet, course.sheet(training.step))
    crew.wait()
