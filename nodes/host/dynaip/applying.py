"""From pictures of a subject and the widgets' values to a model that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from einops import rearrange
from torch import Tensor

from ....dci_core.dynaip.fusion import Fused, granularity_bias
from ....dci_core.dynaip.subject import Subject, read_blocks
from ....dci_core.errors import BadPicture, BadSettings
from ..families.mmdit import mmdit_of
from .adapters import HostAdapter
from .nouns import NounPlaces, find_noun
from .prompting import with_reference
from .readings import HeldReference, ReadingRecord
from .vision import cut_out, look

EVERYWHERE, REGION, NOUN = "everywhere", "region", "noun"
PLACES = (EVERYWHERE, REGION, NOUN)


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is seen of a subject.

    images         [b h w c], pictures of it
    mask           [h w] or [b h w] at any size, white where it is; None: all of each picture
    granularity    -1 texture .. 1 meaning
    level_weights  the levels' shares as written, empty for the router's
    """

    images: Tensor
    mask: Tensor | None
    granularity: float
    level_weights: str


@dataclass(frozen=True, eq=False)
class Reading:
    """How, where and when a subject is read; see the inputs of Apply DynaIP."""

    scale: float
    text_scale: float
    start: float
    end: float
    blocks: str
    where: str
    region: Tensor | None
    noun: str
    prompt: str
    clip: Any

    def subject(self, adapter: HostAdapter) -> Subject:
        """The core's settings; raises BadSettings, BadLayers."""
        return Subject(
            scale=self.scale,
            text_scale=self.text_scale,
            region=self.drawn_region(),
            start=self.start,
            end=self.end,
            blocks=read_blocks(self.blocks, adapter.blocks),
            noun=self.noun.strip() or None,
        )

    def drawn_region(self) -> Tensor | None:
        """The region mask where it is asked for; raises BadSettings where it did not come."""
        if self.where != REGION:
            return None
        if self.region is None:
            raise BadSettings(
                "where is region, and no region mask came",
                "a mask that is white where the subject goes in the new picture is expected",
                "connect one, or choose everywhere",
            )
        return self.region.float().clamp(0, 1)

    def places(self) -> NounPlaces | None:
        """Where the noun stands in the prompt, where that is asked for; raises BadSettings, SpanNotFound."""
        return find_noun(self.clip, self.prompt, self.noun) if self.where == NOUN else None


def apply_subject(
    model: Any, vision: Any, adapter: HostAdapter, pictures: Pictures, reading: Reading
) -> tuple[Any, ReadingRecord, str]:
    """(model that reads one more subject, record of its last run, the levels' shares as text); raises PackError."""
    adapter.check_family(mmdit_of(model))
    subject, places = reading.subject(adapter), reading.places()
    fused = fuse(vision, adapter, pictures)
    tokens = rearrange(fused.tokens.cpu(), "pictures m c -> 1 (pictures m) c")
    return *with_reference(model, HeldReference(adapter, tokens, subject, places)), describe(adapter, fused)


def fuse(vision: Any, adapter: HostAdapter, pictures: Pictures) -> Fused:
    """Reference tokens of a subject's pictures; raises BadPicture, BadModel, BadSettings."""
    if pictures.images.shape[0] == 0:
        raise BadPicture("no picture of the subject came", "one or more are expected", "connect pictures of it")
    adapter.check_vision(vision)
    bias = granularity_bias(pictures.granularity, max(len(adapter.levels), 2)) if pictures.granularity else None
    shown = pictures.images
    if pictures.mask is not None:
        shown = cut_out(shown, pictures.mask, tuple(vision.image_mean))
    return adapter.fuse(look(vision, shown), read_weights(pictures.level_weights), bias)


def read_weights(text: str) -> tuple[float, ...] | None:
    """The levels' shares of a text like `0 0 1`; None for an empty one; raises BadSettings."""
    words = text.replace(",", " ").split()
    try:
        return tuple(float(word) for word in words) or None
    except ValueError as error:
        raise BadSettings(
            f"the level weights are {text!r}", "numbers from fine to coarse are expected", "write such as 0 0 1"
        ) from error


def describe(adapter: HostAdapter, fused: Fused) -> str:
    """The levels' shares, for the user to read."""
    if not adapter.levels:
        return "this adapter reads one pooled vector: no granularity"
    lines = [
        "  ".join(f"layer {level}: {share:.2f}" for level, share in zip(adapter.levels, shares.tolist(), strict=True))
        for shares in fused.weights
    ]
    return "\n".join(lines)
