"""ICO training inside the host: what is trained on, what it costs, where it is kept, and how it stops."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ...dci_core.checkpoint import load_state, save_state
from ...dci_core.concept import Concept, check_trigger, make_concept
from ...dci_core.concept_file import load_concept, save_concept
from ...dci_core.errors import BadModel, BadSettings, PackError
from ...dci_core.families import Family
from ...dci_core.ico import StepReport, train_steps
from ...dci_core.ico_settings import IcoSettings, check_settings
from ...dci_core.pictures import Picture, make_picture
from ...dci_core.tiny.world.words import RARE_WORDS
from ...dci_core.training_data import TrainingData, encode_pictures
from ...dci_core.training_state import TrainState, begin_training
from ...dci_core.version import VERSION
from . import folders
from .adapter import HostModel
from .concepts import check_encoders
from .families import family_of
from .identity import base_hash, digest, patches_hash
from .previews import Preview
from .thaw import open_to_gradients

log = logging.getLogger(__name__)
SAVE_EVERY = 100  # steps between two resume files


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a concept is learned from.

    images, class_images      pictures [h w c] in 0..1
    masks                     [h w] in 0..1 each, or none at all
    captions, class_captions  one each, or none at all
    size_px                   side that pictures are resized to; 0: the family's own
    keep_rank                 factors kept of each change in the file; None: full rank
    preview_every             steps between two preview pictures; 0: none
    """

    noun: str
    trigger: str
    settings: IcoSettings
    images: Sequence[Tensor]
    masks: Sequence[Tensor] = ()
    captions: Sequence[str] = ()
    class_images: Sequence[Tensor] = ()
    class_captions: Sequence[str] = ()
    size_px: int = 0
    keep_rank: int | None = 16
    preview_every: int = 20

    def key(self, base: str) -> str:
        """A hash of everything that the trained concept depends on."""
        words = (self.noun, self.trigger, asdict(self.settings), list(self.captions), list(self.class_captions))
        sizes = (self.size_px, self.keep_rank, base, VERSION)
        pictures = [digest(x) for group in (self.images, self.masks, self.class_images) for x in group]
        return hashlib.sha256(repr((words, sizes, pictures)).encode()).hexdigest()[:16]


def train_concept(model: Any, clip: Any, vae: Any, lesson: Lesson) -> tuple[Concept, list[float]]:
    """(the concept, its losses): from disk where this very training was done before, else trained and kept there.

    An interrupted training is kept too, and goes on from where it was when it is asked for again. Raises PackError.
    """
    family = family_of(model)
    check_lesson(model, clip, lesson, family)
    base = base_hash(model, family)
    place = kept_path(lesson, base + patches_hash(model))
    if place.is_file():
        log.info("the concept %s was trained before; taken from %s", lesson.trigger, place.name)
        return load_concept(place), read_losses(place)
    with torch.inference_mode(False), torch.no_grad():
        data = encode_lesson(model, vae, lesson, family)  # before the others are loaded: the VAE may push them out
    with loaded(model, clip):
        host = HostModel(model, clip, family)
        with open_to_gradients(model.model.diffusion_model, clip.cond_stage_model):
            state = run_training(host, data, lesson, place.with_suffix(".training"))
        concept = make_concept(state, trigger=lesson.trigger, rank=lesson.keep_rank, base_hash=base)
    place.parent.mkdir(parents=True, exist_ok=True)
    save_concept(concept, place)
    place.with_suffix(".losses.json").write_text(json.dumps(state.losses), encoding="utf-8")
    place.with_suffix(".training").unlink(missing_ok=True)
    return load_concept(place), state.losses


def run_training(host: HostModel, data: TrainingData, lesson: Lesson, resume: Path) -> TrainState:
    """The state after the last step; whatever stops it, the resume file holds what was reached."""
    state = resumed(host, data, lesson, resume)
    announce(host, data, lesson, state)
    watcher = Preview(host, data, state, lesson.preview_every)
    resume.parent.mkdir(parents=True, exist_ok=True)
    try:
        for report in train_steps(host, data, state, sigmas=host.sigmas()):
            after_step(report, state, watcher, resume)
    except BaseException:
        if state.step:
            save_state(state, resume)
            log.info("stopped after step %d; the same training goes on from there", state.step)
        raise
    return state


def after_step(report: StepReport, state: TrainState, watcher: Preview, resume: Path) -> None:
    """The bar moves, a picture may show, the user may have cancelled."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    if report.step == 1:
        log.info("%d steps will take about %.0f s", report.steps, report.seconds * report.steps)
    watcher.show(report)
    if report.step % SAVE_EVERY == 0 and report.step < report.steps:
        save_state(state, resume)
    throw_exception_if_processing_interrupted()


def resumed(host: HostModel, data: TrainingData, lesson: Lesson, resume: Path) -> TrainState:
    """The interrupted training where there is one, else a new one."""
    parts = {"noun": lesson.noun, "widths": host.kv_shapes(), "rare_tokens": rare_tokens(host)}
    if resume.is_file():
        try:
            return load_state(resume, host, data, lesson.settings, **parts)
        except PackError as error:
            log.warning("the interrupted training cannot go on and begins again: %s", error)
    return begin_training(host, data, lesson.settings, **parts)


def rare_tokens(host: HostModel) -> dict[str, list[int]] | None:
    """Where modifier tokens start in the tiny world, whose rare words are its own; None: CLIP's."""
    if host.family != "tiny":
        return None
    return {name: [words.tokenize(rare)[0] for rare in RARE_WORDS] for name, words in host.encoders.items()}


def announce(host: HostModel, data: TrainingData, lesson: Lesson, state: TrainState) -> None:
    """Says what is to come, before the first step."""
    learned = sum(p.numel() for p in state.learned.parameters())
    rows = lesson.settings.batch * (1 if lesson.settings.prior == "none" else 2)
    log.info(
        "training %s %s on %d pictures: %d steps of %d rows, %.1f million learned numbers, about %.0f MiB for them and "
        "the optimiser; resume and result go to models/%s",
        lesson.trigger, lesson.noun, len(data.latents), lesson.settings.steps - state.step, rows, learned / 1e6,
        learned * 16 / 2**20, folders.FOLDER,
    )  # fmt: skip


def check_lesson(model: Any, clip: Any, lesson: Lesson, family: Family) -> None:
    """Nothing, or the first thing that cannot work, before any work is done."""
    check_encoders(clip, family)
    check_settings(lesson.settings)
    check_trigger(lesson.trigger)
    dtype = model.model.get_dtype()
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise BadModel(
            f"the model's weights are {str(dtype).removeprefix('torch.')}",
            "fp32, fp16 or bf16 is expected for training",
            "load the checkpoint in one of these; sampling works with this one",
        )
    for name, few, many in (
        ("masks", lesson.masks, lesson.images),
        ("captions", lesson.captions, lesson.images),
        ("class captions", lesson.class_captions, lesson.class_images),
    ):
        if few and len(few) != len(many):
            raise BadSettings(f"{len(few)} {name} came", f"{len(many)} are expected", "give one for each picture")


def encode_lesson(model: Any, vae: Any, lesson: Lesson, family: Family) -> TrainingData:
    """The pictures as latents in the model's own scale, on its device, mirrored ones included."""
    size = lesson.size_px or family.picture_size

    def encode(pixels: Tensor) -> Tensor:
        latents = vae.encode(rearrange(pixels, "b c h w -> b h w c"))
        return model.model.process_latent_in(latents.float()).to(model.load_device).clone()

    return encode_pictures(
        pictures_of(lesson.images, size, lesson.masks, lesson.captions, "picture"),
        encode,
        class_pictures=pictures_of(lesson.class_images, size, (), (), "class picture"),
        class_captions=list(lesson.class_captions),
        flips=lesson.settings.flip_probability > 0,
    )


def pictures_of(
    images: Sequence[Tensor], size: int, masks: Sequence[Tensor], captions: Sequence[str], name: str
) -> list[Picture]:
    """Pictures as training wants them."""
    return [
        make_picture(
            image.detach().cpu(),
            size,
            masks[i].detach().cpu() if masks else None,
            (captions[i].strip() or None) if captions else None,
            f"{name} {i + 1}",
        )
        for i, image in enumerate(images)
    ]


@contextmanager
def loaded(model: Any, clip: Any) -> Iterator[None]:
    """MODEL and CLIP on their devices, the CLIP at its layer; its own settings again afterwards."""
    from comfy.model_management import load_models_gpu

    load_models_gpu([model, clip.patcher])
    text = clip.cond_stage_model
    text.reset_clip_options()
    if clip.layer_idx is not None:
        text.set_clip_options({"layer": clip.layer_idx})
    try:
        yield
    finally:
        text.reset_clip_options()


def kept_path(lesson: Lesson, base: str) -> Path:
    """Where the concept of this very training lies."""
    return folders.new_path(f"trained/{lesson.trigger}-{lesson.key(base)}")


def read_losses(place: Path) -> list[float]:
    """Losses of a kept training; none where their file is gone."""
    try:
        return [float(loss) for loss in json.loads(place.with_suffix(".losses.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []
