"""What the first workflow asks: development objects in every place but their home, plainly and with DCI.

Settings are the workflow's, seeds were fixed before anything was drawn, and every prompt is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...concept.apply import apply_concept
from ...concept.learned import Concept
from ...dci.branches import DciSettings
from ...ico.settings import IcoSettings
from ...text.prompts import Prompts
from ...text.tokens import PromptPair
from ...tiny.defaults import TINY_DCI
from ...tiny.judge import Judge, Scale, Verdict
from ...tiny.model import TinyModel, World
from ...tiny.world.concepts import HeldOut
from ...tiny.world.words import HOMES, PLACES
from .concepts import LEAST_LIKENESS
from .trial import Ask, judged, pictures_of, scale_for

SCENE_SEEDS = (0, 1, 2, 3)
WORKFLOW_ICO = IcoSettings(steps=200, learning_rate=2.5e-4, batch=4, seed=23)  # of workflow 1's ICO Train Concept
AUXILIARY, ENCODER = "cat", "clip_l"
PLAIN = "plain"


@dataclass(frozen=True)
class SceneReading:
    """One prompt drawn one way: a number a picture.

    way    "plain", or DCI's window as text
    right  whether the picture shows the asked place
    """

    concept: str
    kind: str
    place: str
    way: str
    right: tuple[bool, ...]
    likeness: tuple[float, ...]

    @property
    def good(self) -> tuple[bool, ...]:
        """Whether thing and place are both there."""
        return tuple(r and like >= LEAST_LIKENESS for r, like in zip(self.right, self.likeness, strict=True))


def places_for(thing: HeldOut) -> list[str]:
    """Every place of the world but the thing's home."""
    return [place for place in PLACES if place != HOMES[thing.thing.noun]]


def read_scenes(
    world: World, judge: Judge, thing: HeldOut, kind: str, concept: Concept, windows: Sequence[float]
) -> Iterator[SceneReading]:
    """A reading for each place, plain first, then a window after the other; all from the same noise."""
    model, scale = apply_concept(world.model, concept), scale_for(judge, thing)
    ways: dict[str, DciSettings | None] = {PLAIN: None}
    ways |= {f"{window:g}": replace(TINY_DCI, window=window) for window in windows}
    for place in places_for(thing):
        prompts = prompts_of(model, concept, place)
        for way, dci in ways.items():
            pictures = pictures_of(model, world.codec, prompts, SCENE_SEEDS, dci=dci)
            found = judge_scene(judge, scale, place, pictures)
            right = tuple(bool(value) for value in found.asked["place"])
            yield SceneReading(thing.name, kind, place, way, right, tuple(found.likeness.tolist()))


def prompts_of(model: TinyModel, concept: Concept, place: str) -> Prompts:
    """The workflow's prompt for a place, and its auxiliary."""
    pair = PromptPair.from_template(
        f"a {{concept}} {PLACES[place]}",
        trigger=concept.trigger,
        noun=concept.noun,
        auxiliary=AUXILIARY,
        encoder=model.encoders[ENCODER],
    )
    return Prompts.from_pair(model, pair)


@torch.no_grad()
def judge_scene(judge: Judge, scale: Scale, place: str, pictures: Tensor) -> Verdict:
    """The judge's word on pictures [b 3 128 128] of one place."""
    return judged(judge, pictures, scale, Ask("", {"place": place}, False))
