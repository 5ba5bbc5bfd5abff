"""The judge: says what is in a picture, and whether its object is the one in other pictures. Blind to the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize, silu

from .world.words import COMPANIONS, NOUNS, PLACES, STYLES

QUESTIONS: dict[str, tuple[str, ...]] = {
    "noun": NOUNS,
    "place": tuple(PLACES),
    "companion": (*COMPANIONS, "nothing"),
    "style": STYLES,
}
IDENTITY_WIDTH = 64


class Stage(nn.Module):
    """Half the size, then a residual convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, outputs)
        self.more = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = silu(self.norm(self.down(x)))
        return x + silu(self.more(x))


class Judge(nn.Module):
    """A small convolutional network with a reading per question and an identity vector."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in zip(widths, widths[1:], strict=False)))
        features = 2 * widths[-1]
        self.readings = nn.ModuleDict({q: nn.Linear(features, len(a)) for q, a in QUESTIONS.items()})
        self.identity = nn.Sequential(nn.Linear(features, 128), nn.SiLU(), nn.Linear(128, IDENTITY_WIDTH))

    def features(self, pictures: Tensor) -> Tensor:
        """[b 2*128] of pictures [b 3 128 128] in 0..1: mean and peak over the picture."""
        x = self.stages(avg_pool2d(pictures, 2) * 2 - 1)
        return torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1)

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(answers' logits per question [b answers], identity vectors [b 64] of length one)."""
        features = self.features(pictures)
        return {q: reading(features) for q, reading in self.readings.items()}, normalize(self.identity(features), dim=1)


@dataclass(frozen=True)
class Scale:
    """What likeness is measured against, for one object: cosines to its reference pictures.

    known     [64], mean identity vector of the reference pictures
    stranger  cosine of other objects of the same noun: likeness 0
    itself    cosine of true pictures of the object in other places: likeness 1
    """

    known: Tensor
    stranger: float
    itself: float

    def of(self, identity: Tensor) -> Tensor:
        """Likeness [b] of identity vectors [b 64], not yet clipped to 0..1."""
        return (identity @ self.known - self.stranger) / (self.itself - self.stranger)


@dataclass(frozen=True)
class Verdict:
    """What the judge found in b pictures, each value [b].

    likeness          0..1, see `Scale`
    asked             per question asked: whether the answer is the one asked for
    """

    likeness: Tensor
    asked: dict[str, Tensor]

    @property
    def prompt_following(self) -> Tensor:
        """Share of right answers on place, companion and style, [b] in 0..1; the noun's presence is apart."""
        right = [value.float() for question, value in self.asked.items() if question != "noun"]
        return torch.stack(right).mean(dim=0)


@torch.no_grad()
def make_scale(judge: Judge, references: Tensor, strangers: Tensor, held_out: Tensor) -> Scale:
    """The scale of one object, from pictures [b 3 128 128] in 0..1."""
    known = normalize(judge(references)[1].mean(dim=0), dim=0)
    return Scale(known, float((judge(strangers)[1] @ known).mean()), float((judge(held_out)[1] @ known).mean()))


@torch.no_grad()
def verdict(judge: Judge, pictures: Tensor, scale: Scale, asked: dict[str, str]) -> Verdict:
    """How like the object the pictures are, and whether what was asked for is there.

    pictures  [b 3 128 128] in 0..1
    asked     question -> answer, as "place" -> "snow"
    """
    answers, identity = judge(pictures)
    likeness = scale.of(identity).clamp(0, 1)
    right = {q: answers[q].argmax(dim=1) == QUESTIONS[q].index(answer) for q, answer in asked.items()}
    return Verdict(likeness, right)
