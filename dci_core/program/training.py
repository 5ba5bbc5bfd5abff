"""Training with a bar, saved as it goes: stopped at any step, it goes on exactly from there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..concept.file import save_concept
from ..concept.learned import Concept
from ..dynaip.training.state import AdapterTraining
from ..errors import BadConcept, BadSettings, NotSaved, PackError, TrainingDiverged
from ..ico.checkpoint import load_state, save_state
from ..ico.data import TrainingData, encode_pictures
from ..ico.estimate import check_room, needs_of
from ..ico.result import make_concept
from ..ico.samples import draw_sample
from ..ico.settings import IcoSettings
from ..ico.state import TrainState, begin_training
from ..ico.train import StepReport, train_steps
from ..pictures.reference import Picture
from ..pictures.thumbnails import image_of, small_jpeg
from .console import Bar, Console
from .interrupt import gentle_stop
from .tiny_world import TinyWorld, rare_ids

log = logging.getLogger(__name__)
RECENT = 20  # steps in the mean loss that the bar shows
KEPT_SUFFIX = ".training.safetensors"


class Stopped(Exception):
    """The user has stopped the training; everything so far stands in `kept`."""

    def __init__(self, state: TrainState | AdapterTraining, kept: Path) -> None:
        super().__init__(f"stopped after step {state.step} of {state.settings.steps}")
        self.state, self.kept = state, kept


@dataclass(frozen=True)
class Course:
    """One training: what is learned, from what, and where it is kept.

    out         the concept's file
    rank        factors kept of each change in that file, or None for all
    save_every  steps between two saves of the unfinished training
    """

    settings: IcoSettings
    noun: str
    trigger: str
    out: Path
    rank: int | None = 16
    save_every: int = 50

    @property
    def kept(self) -> Path:
        """Where the unfinished training stands."""
        return self.out.with_name(self.out.stem + KEPT_SUFFIX)


def encode(tiny_world: TinyWorld, pictures: Sequence[Picture], class_pictures: Sequence[Picture] = ()) -> TrainingData:
    """The pictures as training reads them."""
    return encode_pictures(
        pictures,
        tiny_world.codec.encode,
        class_pictures=class_pictures,
        class_captions=[picture.caption for picture in class_pictures],
    )


def start(tiny_world: TinyWorld, data: TrainingData, course: Course, *, resumes: bool) -> TrainState:
    """A training at its beginning or where it was stopped; it stands on disk, with room for the rest."""
    if resumes:
        state = load_state(
            course.kept, tiny_world.model, data, course.settings, noun=course.noun, rare_tokens=rare_ids()
        )
    else:
        state = begin_training(tiny_world.model, data, course.settings, noun=course.noun, rare_tokens=rare_ids())
    needs = needs_of(state, course.rank)
    check_room(course.out.parent, 2 * needs.resume + needs.concept)  # a save stands beside the older one for a moment
    if not resumes:
        save_state(state, course.kept)
    log.info("training takes %.0f MB of memory beside the model", needs.memory / 1e6)
    return state


def learn(tiny_world: TinyWorld, data: TrainingData, state: TrainState, course: Course, console: Console) -> Concept:
    """The learned concept, saved. Raises Stopped after Ctrl-C, TrainingDiverged, NotSaved; nothing is lost by any."""
    with console.bar(course.settings.steps, "training", state.step) as bar, gentle_stop() as stop:
        try:
            for report in train_steps(tiny_world.model, data, state):
                show(bar, report, state)
                if stop.asked:
                    break
                if report.step % course.save_every == 0:
                    keep(state, course)
        except TrainingDiverged as error:
            raise with_rescue(error, tiny_world, state, course) from error
    keep(state, course)
    if state.step < course.settings.steps:
        raise Stopped(state, course.kept)
    return finish(tiny_world, state, course)


def finish(tiny_world: TinyWorld, state: TrainState, course: Course) -> Concept:
    """The concept saved, the unfinished training's file gone; raises NotSaved, and then that file stays."""
    picture = cover(tiny_world, state)
    concept = make_concept(
        state, trigger=course.trigger, rank=course.rank, base_hash=tiny_world.base_hash, picture=picture
    )
    try:
        save_concept(concept, course.out)
    except NotSaved as error:
        raise still_kept(error, course) from error
    course.kept.unlink(missing_ok=True)
    return concept


def cover(tiny_world: TinyWorld, state: TrainState) -> bytes:
    """A small JPEG file of one picture of the concept."""
    latent = draw_sample(tiny_world.model, state, shape=tiny_world.family.latent_shape)
    return small_jpeg(image_of(tiny_world.codec.decode(latent)[0].permute(1, 2, 0)))


def keep(state: TrainState, course: Course) -> None:
    """The unfinished training stands on disk; raises NotSaved, and then an older state of it does."""
    try:
        save_state(state, course.kept)
    except NotSaved as error:
        raise still_kept(error, course) from error


def still_kept(error: NotSaved, course: Course) -> NotSaved:
    """The error, with how to lose nothing by it."""
    return NotSaved(error.came, error.expected, f'make room there, then go on from "{course.kept.name}" with --resume')


def show(bar: Bar, report: StepReport, state: TrainState) -> None:
    """One step further on the bar, with the mean of the last losses."""
    last = state.losses[-RECENT:]
    bar.set_postfix_str(f"loss {sum(last) / len(last):.3f}", refresh=False)
    bar.update()
    if report.step == report.steps:
        bar.refresh()


def with_rescue(error: TrainingDiverged, tiny_world: TinyWorld, state: TrainState, course: Course) -> PackError:
    """The error, with where training and concept stand as they were before the bad step; no concept at step 0.

    The training knows its bad draws, so that going on tries others. Raises NotSaved.
    """
    keep(state, course)
    again = "try other draws with --resume"
    if state.step == 0:
        return TrainingDiverged(error.came, error.expected, again)
    rescued = course.out.with_name(f"{course.out.stem}-step{state.step}{course.out.suffix}")
    again += ", or lower the learning rate with --restart"
    try:
        concept = make_concept(state, trigger=course.trigger, rank=course.rank, base_hash=tiny_world.base_hash)
        save_concept(concept, rescued)
    except (BadConcept, NotSaved, RuntimeError):  # it had run away before it was noticed
        return TrainingDiverged(error.came, error.expected, again)
    return TrainingDiverged(
        error.came, error.expected, f'{again}; the concept as it was before stands in "{rescued.name}"'
    )


def check_unfinished(kept: Path, *, resumes: bool, restarts: bool) -> None:
    """Nothing, or BadSettings where an unfinished training is missing, or would be overwritten."""
    is_there = kept.exists()
    if resumes and not is_there:
        raise BadSettings(
            f'there is no unfinished training "{kept.name}"',
            "one beside --out was expected",
            "leave --resume out to begin",
        )
    if is_there and not resumes and not restarts:
        raise BadSettings(
            f'an unfinished training "{kept.name}" stands beside --out',
            "a decision about it was expected",
            "add --resume to go on with it, or --restart to begin anew",
        )
