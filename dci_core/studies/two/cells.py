"""The study's smallest pieces of work: concepts learned, pairs drawn and judged, true pairs judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...dci.run import SampleSettings
from ...ico.settings import IcoSettings
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.couples import couple_words, paint_couple
from ..dci.judge_scores import Numbers
from ..dynaip.cells import RENDER_COST
from ..dynaip.pairs import common_places, judge_couple
from ..gates.trial import to_tensor
from .bench import TwoBench
from .ways import Way

SEED = 917_000
TEMPLATE_NAMES = ("{concept:a}", "{concept:b}")
LESSON_STEP = 45  # a training step takes as long as so many rows of sampling
TRUE_PICTURES = 4


@dataclass(frozen=True)
class LearnCell:
    """One concept, learned and kept."""

    concept: int
    ico: IcoSettings

    @property
    def cost(self) -> int:
        """In rows times steps of the model."""
        return self.ico.steps * LESSON_STEP

    def play(self, bench: TwoBench) -> Numbers:
        """No numbers; the concept stands in its file."""
        bench.learn(self.concept, self.ico)
        return {}


@dataclass(frozen=True)
class TwoCell:
    """One pair's places and seeds drawn one way; prompts are numbers of the pair's places."""

    pair: tuple[int, int]
    ico: IcoSettings
    way: Way
    sample: SampleSettings
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Of the pictures: two rows each, and in the window two more."""
        extra = 2 * self.way.dci.window if self.way.dci else 0
        return int(len(self.prompts) * len(self.seeds) * self.sample.num_steps * (2 + extra))

    def play(self, bench: TwoBench) -> Numbers:
        """Per picture [prompts][seeds], as `judge_couple` gives it; swapped sides are judged swapped."""
        judged = self.pair[::-1] if self.way.sides == "swapped" else self.pair
        found = []
        for number in self.prompts:
            place = places_of(self.pair)[number]
            pictures = bench.draw(self.pair, self.ico, template_for(place), self.seeds, self.sample, self.way)
            found.append(judge_couple(bench, (judged[0], judged[1]), place, pictures))
        return {name: [numbers[name] for numbers in found] for name in found[0]}


@dataclass(frozen=True)
class TrueCell:
    """What the judge says of true pictures of a pair, painted side by side."""

    pair: tuple[int, int]
    prompts: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Renders alone."""
        return RENDER_COST

    def play(self, bench: TwoBench) -> Numbers:
        """Per place, as `judge_couple` gives it, [prompts][TRUE_PICTURES]."""
        rng, found = np.random.default_rng(SEED + 500 + sum(self.pair)), []
        things = [CONCEPTS[concept].thing for concept in self.pair]
        for number in self.prompts:
            place = places_of(self.pair)[number]
            pictures = to_tensor([paint_couple(things, place, rng) for _ in range(TRUE_PICTURES)])
            found.append(judge_couple(bench, self.pair, place, pictures))
        return {name: [numbers[name] for numbers in found] for name in found[0]}


def places_of(pair: tuple[int, int]) -> list[str]:
    """Places that the base may have seen both nouns in, in an order fixed by the pair."""
    return common_places(pair, SEED + 20 * pair[0] + pair[1])


def template_for(place: str) -> str:
    """ "a {concept:a} in snow next to a {concept:b}": as captions put the first on the left."""
    return couple_words(TEMPLATE_NAMES, place)
