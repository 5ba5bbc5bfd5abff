"""What pictures of a concept score: prompt following by CLIP-T, likeness by CLIP-I and DINO.

All three are plain cosines in -1..1, higher is better, and only comparable within one and the same encoder:

CLIP-T  of a picture's and its prompt's vectors, the concept told by its class noun alone: CLIP cannot know a trigger.
        CLIPScore (Hessel et al., EMNLP 2021, arXiv 2104.08718) is 2.5 times this, and not below 0.
CLIP-I  of a picture's and a reference picture's vectors, mean over all references; the same background counts as well.
DINO    the same with DINO's vectors, which tell things of one kind apart.

For the scale: Ruiz et al. (DreamBooth, CVPR 2023, arXiv 2208.12242), who introduced the two likenesses, give 0.885 and
0.774 for real pictures among themselves, 0.803 and 0.668 for DreamBooth on Stable Diffusion with a CLIP-T of 0.305, by
DINO ViT-S/16.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from einops import einsum
from PIL import Image
from torch import Tensor

from ..errors import BadPicture, BadSettings
from ..intervals import interval
from .encoders import ClipEncoder, DinoEncoder, Tick, embed

NAMES = {"clip_t": "CLIP-T", "clip_i": "CLIP-I", "dino": "DINO"}
FEWEST_REFERENCES = 2  # one alone says nothing about how much the real pictures differ


@dataclass(frozen=True)
class Score:
    """One number over a set of pictures.

    values     a cosine for each picture, -1..1
    value      their mean
    low, high  95% bootstrap interval of the mean, prompts drawn again with all their pictures (pictures alone where
               there is one prompt); None for a single picture
    """

    values: tuple[float, ...]
    value: float
    low: float | None
    high: float | None

    def facts(self) -> dict[str, float | None]:
        """For machines, as in the evidence's summary.json."""
        return {"value": self.value, "low": self.low, "high": self.high}


Scores = Mapping[str, Score]
"""clip_t, clip_i, dino -> score; what was not measured is not there"""


@dataclass(frozen=True)
class Judges:
    """The encoders that were chosen; raises BadSettings without any."""

    clip: ClipEncoder | None = None
    dino: DinoEncoder | None = None

    def __post_init__(self) -> None:
        if self.clip is None and self.dino is None:
            raise BadSettings("no encoder was chosen", "a CLIP or a DINO folder is expected", "choose one or both")

    @property
    def passes(self) -> int:
        """Times that each picture is looked at."""
        return (self.clip is not None) + (self.dino is not None)


@dataclass(frozen=True)
class References:
    """The reference pictures' unit vectors [m d], per likeness that is measured."""

    vectors: Mapping[str, Tensor]

    def ceiling(self) -> dict[str, float]:
        """What the real pictures score among themselves: likeness much above it is copying, not likeness."""
        return {name: among(vectors) for name, vectors in self.vectors.items()}


def look_at_references(judges: Judges, images: Sequence[Image.Image], tick: Tick | None = None) -> References:
    """The references as the judges see them; raises BadPicture for fewer than two."""
    refuse_few(len(images))
    vectors = {}
    if judges.clip is not None:
        vectors["clip_i"] = embed(judges.clip.pictures, images, tick)
    if judges.dino is not None:
        vectors["dino"] = embed(judges.dino.pictures, images, tick)
    return References(vectors)


def refuse_few(count: int) -> None:
    """Raises BadPicture for fewer than two references."""
    if count < FEWEST_REFERENCES:
        raise BadPicture(
            f"{count} reference picture{' came' if count == 1 else 's came'}",
            f"at least {FEWEST_REFERENCES} are expected",
            "add more pictures of the same thing",
        )


def score_pictures(
    judges: Judges,
    references: References,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    tick: Tick | None = None,
) -> dict[str, Score]:
    """Scores of pictures that were drawn for these prompts, one each; raises PromptTooLong, BadPicture, BadModel."""
    if not images or len(images) != len(prompts):
        raise BadPicture(
            f"{len(images)} pictures and {len(prompts)} prompts came",
            "one prompt for each picture is expected",
            "check both",
        )
    found: dict[str, Tensor] = {}
    if judges.clip is not None:
        seen = embed(judges.clip.pictures, images, tick)
        found["clip_t"] = caption_cosine(seen, embed(judges.clip.texts, prompts))
        found["clip_i"] = mean_cosine(seen, references.vectors["clip_i"])
    if judges.dino is not None:
        found["dino"] = mean_cosine(embed(judges.dino.pictures, images, tick), references.vectors["dino"])
    return {name: summed_up(values.tolist(), prompts) for name, values in found.items()}


def caption_cosine(pictures: Tensor, texts: Tensor) -> Tensor:
    """Cosine [n] of each picture's unit vector with its own text's, both [n d]."""
    return einsum(pictures, texts, "n d, n d -> n")


def mean_cosine(pictures: Tensor, references: Tensor) -> Tensor:
    """Mean cosine [n] of each unit vector [n d] with all references [m d]."""
    return einsum(pictures, references, "n d, m d -> n m").mean(dim=1)


def among(references: Tensor) -> float:
    """Mean cosine of all pairs of different references, unit vectors [m d]."""
    cosines = einsum(references, references, "i d, j d -> i j")
    count = len(references)
    return float((cosines.sum() - cosines.trace()) / (count * (count - 1)))


def summed_up(values: Sequence[float], groups: Sequence[Hashable]) -> Score:
    """The score of these values, those of one group going together."""
    together = groups if len(set(groups)) > 1 else range(len(values))
    low, high = interval(values, together) if len(values) > 1 else (None, None)
    return Score(tuple(values), float(np.mean(values)), low, high)
