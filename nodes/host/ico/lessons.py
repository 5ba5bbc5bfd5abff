"""What a training learns from: pictures, words and settings, checked before any work and encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ....dci_core.concept.learned import Concept, check_trigger, concept_hash
from ....dci_core.errors import BadSettings
from ....dci_core.families.family import Family
from ....dci_core.families.table import FAMILIES
from ....dci_core.fingerprint import short_hash
from ....dci_core.ico.data import TrainingData, encode_pictures
from ....dci_core.ico.memory import AS_SET
from ....dci_core.ico.settings import IcoSettings, check_settings
from ....dci_core.pictures.reference import Picture, make_picture
from ....dci_core.text.captions import own_caption
from ....dci_core.tiny.photographs import WARNING, are_photographs
from ..concept.identity import digest
from ..tiny.words import SMALL_WORLDS, of_noun, of_prompts
from .planned_prompts import PlannedPrompt
from .samples import Samples
from .trainable import check_latents

FIRST_VERSION = "0.1.0"


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a concept is learned from.

    images, class_images      pictures [h w c] in 0..1
    masks                     [h w] in 0..1 each, or none at all
    captions, class_captions  one each, or none at all
    size_px                   side that pictures are resized to; 0: the family's own
    keep_rank                 factors kept of each change in the file; None: full rank
    preview_every             steps between two preview pictures; 0: none
    precision, rank           asked for: auto, or a choice; the settings hold what was chosen; rank None: as in them
    memory                    card whose memory it must fit, of `memory.CHOICES`
    text_on_cpu               the text encoders have no room on that card
    planned                   prompts that the concept is to be drawn with, checked before any work
    samples                   pictures that are drawn meanwhile; they collect here
    start                     concept that the training starts from; None: from nothing
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
    precision: str = "fp32"
    rank: str | None = None
    memory: str = AS_SET
    text_on_cpu: bool = False
    planned: Sequence[PlannedPrompt] = ()
    samples: Samples = field(default_factory=Samples)
    start: Concept | None = None

    def first_key(self, base: str) -> str:
        """The key of an unfinished training as version 0.1.0 named it; such files go on, CLIP and VAE untold."""
        words = (self.noun, self.trigger, asdict(self.settings), list(self.captions), list(self.class_captions))
        sizes = (self.size_px, self.keep_rank, base, FIRST_VERSION)
        pictures = [digest(x) for group in (self.images, self.masks, self.class_images) for x in group]
        return short_hash([repr((words, sizes, pictures)).encode()])


def training_facts(lesson: Lesson, family: Family) -> dict[str, Any]:
    """Everything of a lesson that changes what is learned: no trigger, no size of the file, no previews.

    Steps are left out where the learning rate does not depend on them: more of them go on from what is there.
    """
    settings = asdict(lesson.settings)
    if lesson.settings.schedule == "constant":
        del settings["steps"]
    return {
        "noun": lesson.noun,
        "settings": sorted(settings.items()),
        "captions": [caption.strip() or None for caption in lesson.captions] or [None] * len(lesson.images),
        "class_captions": list(lesson.class_captions),
        "size": lesson.size_px or family.picture_size,
        "images": [digest(x) for x in lesson.images],
        "masks": [digest(x) for x in lesson.masks],
        "class_images": [digest(x) for x in lesson.class_images],
        **({} if lesson.start is None else {"start": concept_hash(lesson.start)}),
    }


def acting(lesson: Lesson) -> Lesson:
    """The lesson without what has no effect: class pictures that no prior reads, a factor of contexts that are off."""
    settings = lesson.settings
    if not settings.contexts:
        lesson = replace(lesson, settings=replace(settings, context_factor=IcoSettings().context_factor))
    return lesson if settings.prior == "pictures" else replace(lesson, class_images=(), class_captions=())


def check_lesson(lesson: Lesson) -> None:
    """Nothing, or the first word, number or list that cannot work, before any work is done."""
    check_settings(lesson.settings)
    check_trigger(lesson.trigger)
    for name, few, many in (
        ("masks", lesson.masks, lesson.images),
        ("captions", lesson.captions, lesson.images),
        ("class captions", lesson.class_captions, lesson.class_images),
    ):
        if few and len(few) != len(many):
            raise BadSettings(f"{len(few)} {name} came", f"{len(many)} are expected", "give one for each picture")
    for caption in lesson.captions:
        own_caption(caption, lesson.noun)


def cautions_for(lesson: Lesson, family: str) -> list[str]:
    """What to know of a lesson that can be learned, but not as well as another."""
    told = []
    if family in SMALL_WORLDS:
        side = FAMILIES["tiny"].picture_size
        if are_photographs([make_picture(image.cpu(), side).pixels for image in lesson.images]):
            told.append(WARNING)
        told += of_noun(lesson.noun)
        prompts = [part for one in lesson.planned for part in (one.text, *(one.auxiliary or ()))]
        drawn = lesson.samples.prompts if lesson.samples.every else ()
        told += of_prompts(family, [*prompts, *drawn], [lesson.trigger, lesson.noun])  # of which it is told already
    if len(lesson.images) == 1:
        told.append(
            "it learned from one picture, so the concept may keep that picture's place and pose; 4 or more of the same "
            "thing in varied places are better"
        )
    return told


def encode_lesson(model: Any, vae: Any, lesson: Lesson, family: Family) -> TrainingData:
    """The pictures as latents in the model's own scale, on its device, mirrored ones included."""
    size = lesson.size_px or family.picture_size

    def encode(pixels: Tensor) -> Tensor:
        shown = rearrange(pixels, "b c h w -> b h w c")
        parts = shown.split(1 if family.has_time else len(shown))  # several would be frames of one film
        latents = torch.cat([vae.encode(part) for part in parts])
        check_latents(latents, size, family)
        scaled = model.model.process_latent_in(latents.float()).to(model.load_device).clone()
        return scaled[:, :, 0] if family.has_time else scaled

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
