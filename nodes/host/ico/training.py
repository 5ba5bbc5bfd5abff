"""ICO training inside the host: what is trained on, what it costs, where it is kept, and how it stops."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ....dci_core.concept.file import load_concept, save_concept
from ....dci_core.concept.learned import Concept
from ....dci_core.errors import NotSaved, PackError, TrainingDiverged
from ....dci_core.files import check_takes_files, remove_spares, write_bytes
from ....dci_core.ico.checkpoint import load_state, save_state
from ....dci_core.ico.data import TrainingData
from ....dci_core.ico.estimate import check_room, needs_of, seconds_left
from ....dci_core.ico.keeping import Keeper
from ....dci_core.ico.result import make_concept
from ....dci_core.ico.start import start_from
from ....dci_core.ico.state import TrainState, begin_training
from ....dci_core.ico.train import StepReport, train_steps
from ....dci_core.tiny.world.words import RARE_WORDS
from .. import folders
from ..concept.identity import base_hash
from ..concept.triggers import ENCODER
from ..families.recognition import family_of
from ..page.live import note
from ..tiny.words import SMALL_WORLDS
from .backward import is_short_of_memory
from .choosing import chosen, fitted
from .covers import cover_latent, cover_picture, decoded, decoded_beside
from .kept import Kept, concept_at, kept_at, remove_passed, tidy
from .lessons import Lesson, acting, cautions_for, check_lesson, encode_lesson
from .model import HostModel
from .planned_prompts import check_planned
from .previews import Preview
from .residence import computing_in, load_whole, on_cpu, weight_bytes, whole
from .samples import ENDING as SAMPLES
from .samples import Develop
from .thaw import open_to_gradients
from .trainable import cautions_of, check_present, check_trainable

log = logging.getLogger(__name__)
RARE_SYLLABLES = (" ktn", " pll", " ucd")  # the words of CLIP's rare tokens, for encoders that number theirs otherwise
TIME_AFTER = (3, 20)  # steps of this run after which the log says how long it will still take


def train_concept(model: Any, clip: Any, vae: Any, lesson: Lesson) -> tuple[Concept, list[float]]:
    """(the concept, its losses): from disk where this very training was done before, else trained and kept there.

    An interrupted training is kept too, and goes on from where it was when it is asked for again. Raises PackError.
    """
    check_present(model, clip, vae)
    family = family_of(model)
    check_trainable(model, clip, vae, family)
    for sentence in (*cautions_of(model), *cautions_for(lesson, family.name)):
        note(sentence)
    lesson = chosen(model, lesson, family)
    if model.load_device.type != "cpu":
        lesson = fitted(
            lesson, family, partial(weight_bytes, model, clip, lesson.settings.precision), model.load_device
        )
    check_lesson(lesson)
    check_planned(clip, family, lesson.trigger, lesson.noun, lesson.settings.modifier_tokens, lesson.planned)
    lesson = acting(lesson)
    base = base_hash(model, family)
    kept = kept_at(model, clip, vae, lesson, family)
    place = kept.concept
    if place.is_file():
        log.info("the concept %s was trained before; taken from %s", lesson.trigger, place.name)
        recall_samples(model, vae, lesson, kept)
        return load_concept(place), read_losses(place)
    check_takes_files(place.parent)  # before the first step, not after the last
    with torch.inference_mode(False), torch.no_grad():
        data = encode_lesson(model, vae, lesson, family)  # before the others are loaded: the VAE may push them out
    model, clip = whole(computing_in(model, lesson.settings.precision), clip)
    with on_cpu(clip) if lesson.text_on_cpu else nullcontext(clip) as text, loaded(model, text):
        host = HostModel(model, text, family)
        state = run_training(host, data, lesson, kept, base, partial(decoded_beside, model, vae))
        latent = cover_latent(host, data, state)
    picture = None if latent is None else cover_picture(model, vae, latent)
    lesson.samples.decode(partial(decoded, model, vae))
    concept = make_concept(state, trigger=lesson.trigger, rank=lesson.keep_rank, base_hash=base, picture=picture)
    if state.step < state.settings.steps:
        return concept, state.losses  # not kept as finished: the next run tries the step again, with other draws
    return keep_finished(concept, state, place), state.losses


def recall_samples(model: Any, vae: Any, lesson: Lesson, kept: Kept) -> None:
    """The samples of a training that was done before, as far as they were drawn then."""
    samples = lesson.samples
    if not samples.every:
        return
    samples.load(samples.file(kept.training, lesson.trigger, kept.key), lesson.settings.steps)
    if not samples.latents:
        note("this training was kept without these samples; change the seed to train, and sample, once more")
    samples.decode(partial(decoded, model, vae))


def keep_for_choice(state: TrainState, lesson: Lesson, kept: Kept, base: str | None) -> None:
    """The concept as it is now stands where a training of so many steps finds it, so that this step can be chosen."""
    if state.settings.schedule != "constant" or state.step == state.settings.steps:
        return  # with another schedule so many steps are another training; the last one is kept anyway
    concept = make_concept(state, trigger=lesson.trigger, rank=lesson.keep_rank, base_hash=base)
    keep_finished(concept, state, concept_at(kept.key, state.step, lesson))


def keep_finished(concept: Concept, state: TrainState, place: Path) -> Concept:
    """The concept as its file gives it; where none can be written, as it is, and its training stays."""
    remove_spares(place)
    try:
        save_concept(concept, place)
        write_bytes(place.with_suffix(".losses.json"), json.dumps(state.losses).encode())
    except NotSaved as error:
        note(f"the concept is trained but not kept, save it with Save ICO Concept: {error}")
        return concept
    return load_concept(place)


def run_training(
    host: HostModel, data: TrainingData, lesson: Lesson, kept: Kept, base: str | None, develop: Develop
) -> TrainState:
    """The state after the last step, or after the last good one; its file holds what was reached.

    A training that has all its steps already is taken as it is: another rank or trigger is cut from it.

    develop  what makes a picture of a sample while the model is loaded, where it can
    """
    networks = host.model.model.diffusion_model, host.clip.cond_stage_model
    with open_to_gradients(*networks):
        state, source = resumed(host, data, lesson, kept)
        if state.step == state.settings.steps:
            log.info("the training %s has all %d steps; the concept is cut from it", kept.training.name, state.step)
            return state
        announce(data, lesson, state, kept.training.parent)
        recomputes = is_short_of_memory(host, data, state)
    tidy(kept.training.parent, [kept.training, *([] if source is None else [source])])
    samples, shape = lesson.samples, data.latents.shape[2:]
    sampled = samples.file(kept.training, lesson.trigger, kept.key)
    samples.load(sampled, state.step)
    tidy(sampled.parent, [sampled], ending=SAMPLES)
    watcher = Preview(host, data, state, lesson.preview_every)
    keeper = Keeper(kept.training, partial(save_state, state), tell=note)
    reports: list[StepReport] = []
    rows = rows_of(state) * state.settings.accumulation
    try:
        with open_to_gradients(*networks, recomputes=recomputes):
            for report in train_steps(host, data, state, sigmas=host.sigmas(), data_std=host.data_std, casts=False):
                reports.append(report)
                after_step(reports, watcher, keeper, samples.seconds_left(report, rows))
                if samples.is_due(report.step, report.steps):
                    watcher.show_samples(samples, samples.draw(host, state, shape, sampled, develop))
                    keep_for_choice(state, lesson, kept, base)
        keeper.keep()
    except TrainingDiverged as error:
        keeper.keep()  # with the draws that were bad, at step 0 too: what goes on from it tries others
        if not state.step:
            raise
        note(f"stopped after step {state.step} of {state.settings.steps}, the concept is as it was then: {error}")
    except BaseException:
        if state.step and keeper.keep():
            log.info("stopped after step %d; the same training goes on from there", state.step)
        raise
    finally:
        if source is not None:
            remove_passed(source, kept.training)
    if redrawn := sum(report.bad_draws for report in reports):
        note(f"{redrawn} draws gave no finite loss or gradient and were replaced by others")
    return state


def after_step(reports: list[StepReport], watcher: Preview, keeper: Keeper, more: float = 0.0) -> None:
    """The bar moves, a picture may show, the user may have cancelled.

    more  seconds that are still to come beside the steps: rounds of samples
    """
    from comfy.model_management import throw_exception_if_processing_interrupted

    report = reports[-1]
    left = seconds_left(reports)
    if left is not None and len(reports) in TIME_AFTER:
        log.info("step %d of %d, loss %.4f, about %.0f s left", report.step, report.steps, report.loss, left + more)
    watcher.show(report, more)
    keeper.after_step()
    throw_exception_if_processing_interrupted()


def resumed(host: HostModel, data: TrainingData, lesson: Lesson, kept: Kept) -> tuple[TrainState, Path | None]:
    """(the training as far as it is kept, from that file), else (a new one, None)."""
    parts: dict[str, Any] = {"noun": lesson.noun, "widths": host.kv_shapes(), "rare_tokens": rare_tokens(host)}
    parts["device"] = host.model.load_device  # what is learned in the U-Net is there, wherever the CLIP is
    for path in kept.candidates(lesson.settings.steps):
        try:
            return load_state(path, host, data, lesson.settings, **parts), path
        except PackError as error:
            note(f"the kept training {path.name} cannot go on and is not used: {error}")
    state = begin_training(host, data, lesson.settings, **parts)
    if lesson.start is not None:
        start_from(state, lesson.start)
    return state, None


def rare_tokens(host: HostModel) -> dict[str, list[int]] | None:
    """Where modifier tokens start in the tiny worlds and in other encoders than CLIP; None: CLIP's own rare tokens."""
    if host.family not in SMALL_WORLDS and all(name.startswith(ENCODER) for name in host.encoders):
        return None
    chosen = RARE_WORDS if host.family in SMALL_WORLDS else RARE_SYLLABLES
    return {name: [words.tokenize(rare)[0] for rare in chosen] for name, words in host.encoders.items()}


def announce(data: TrainingData, lesson: Lesson, state: TrainState, folder: Path) -> None:
    """Says what is to come, before the first step; raises NotSaved where the disk has no room for it."""
    needs = needs_of(state, lesson.keep_rank)
    check_room(folder, 2 * needs.resume + needs.concept)  # a save stands beside the older one for a moment
    left, rows = state.settings.steps - state.step, rows_of(state)
    log.info(
        "training %s %s on %d pictures: %d steps of %d rows in %s on %s",
        lesson.trigger, lesson.noun, len(data.latents), left, rows, state.settings.precision,
        state.learned.deltas.device,
    )  # fmt: skip
    log.info(
        "on top of the model it takes %.0f MB of memory; at most %.0f MB in models/%s, %.1f MB in the end",
        needs.memory / 1e6, (2 * needs.resume + needs.concept) / 1e6, folders.FOLDER,
        (needs.resume + needs.concept) / 1e6,
    )  # fmt: skip


def rows_of(state: TrainState) -> int:
    """Rows of the model in one pass of a step: the pictures', and the prior's as many."""
    return state.settings.batch * (1 if state.settings.prior == "none" else 2)


@contextmanager
def loaded(model: Any, clip: Any) -> Iterator[None]:
    """MODEL and CLIP whole on their devices, the CLIP at its layer; its own settings again afterwards."""
    load_whole(model, clip)
    text = clip.cond_stage_model
    text.reset_clip_options()
    if clip.layer_idx is not None:
        text.set_clip_options({"layer": clip.layer_idx})
    try:
        yield
    finally:
        text.reset_clip_options()


def read_losses(place: Path) -> list[float]:
    """Losses of a kept training; none where their file is gone."""
    try:
        return [float(loss) for loss in json.loads(place.with_suffix(".losses.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []
