"""Two subjects in one picture, each read in its half: does one leak into the other's place?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...tiny.judge import QUESTIONS
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.couples import couple_words, paint_couple
from ...tiny.world.scene import PICTURE_SIZE
from ...tiny.world.words import NEVER, PLACES
from ..dci.judge_scores import JudgeScores, Numbers, plain_numbers
from ..dci.protocol import Panel
from ..gates.trial import to_tensor
from .bench import FlowBench
from .cells import RENDER_COST, picture_cost
from .protocol import PAIRS
from .ways import Way

SEED = 838_000
SIDE = PICTURE_SIZE // 2
TOP = 40  # pixels above the crops: their middle is where objects stand; enlarged, they are as large as when alone
MODES = ("none", "regions", "everywhere", "first alone")
SUBJECTS = ("left_first", "left_second", "right_first", "right_second")


@dataclass(frozen=True)
class PairSetting:
    """How two subjects are read.

    mode  "none"; "regions": each in its half; "everywhere": both in every row; "first alone": the first in its half,
          the second by its noun alone
    """

    name: str
    mode: str
    way: Way


def pair_settings(base: Way) -> tuple[PairSetting, ...]:
    """Without a reference, then every mode with and without decoupling."""
    plain = PairSetting("no reference", MODES[0], replace(base, adapter=""))
    return (plain, *(pair_setting(base, mode, text_scale) for mode in MODES[1:] for text_scale in (0.0, 1.0)))


def pair_setting(base: Way, mode: str, text_scale: float) -> PairSetting:
    """One mode at one text scale."""
    return PairSetting(f"{mode}, text scale {text_scale:g}", mode, replace(base, text_scale=text_scale))


def places_for(pair: int) -> list[str]:
    """Places that the base may have seen both nouns in, in an order fixed by the pair's number."""
    return common_places(PAIRS[pair], SEED + pair)


def common_places(concepts: Sequence[int], seed: int) -> list[str]:
    """Places that the base may have seen the nouns of all these concepts in, in an order fixed by the seed."""
    nouns = [CONCEPTS[number].thing.noun for number in concepts]
    never = {place for noun in nouns for place in NEVER[noun]}
    rng = np.random.default_rng(seed)
    return [str(place) for place in rng.permutation([p for p in PLACES if p not in never])]


def pair_words(pair: int, place: str) -> str:
    """The prompt: nouns and place alone."""
    return couple_words([CONCEPTS[number].thing.noun for number in PAIRS[pair]], place)


def halves() -> tuple[Tensor, Tensor]:
    """The left and the right half of a picture as regions."""
    left = torch.zeros(8, 8)
    left[:, :4] = 1
    return left, 1 - left


@dataclass(frozen=True)
class PairCell:
    """One pair's prompts and seeds drawn one way; prompts are numbers of the pair's places."""

    pair: int
    mode: str
    way: Way
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Of the pictures."""
        return picture_cost(len(self.prompts) * len(self.seeds), self.way.sample)

    def play(self, bench: FlowBench) -> Numbers:
        """Per picture [prompts][seeds], as `judge_pair` gives it."""
        places = [places_for(self.pair)[number] for number in self.prompts]
        pictures = self.draw(bench, places)
        parts = pictures.reshape(len(places), len(self.seeds), *pictures.shape[1:])
        found = [judge_pair(bench, self.pair, place, part) for place, part in zip(places, parts, strict=True)]
        return {name: [numbers[name] for numbers in found] for name in found[0]}

    def draw(self, bench: FlowBench, places: list[str]) -> Tensor:
        """[(places seeds) 3 128 128] in 0..1, on the CPU."""
        words = [pair_words(self.pair, place) for place in places]
        if self.mode == "none":
            return bench.draw(words, self.seeds, self.way.sample, None, "attention")
        read = PAIRS[self.pair][:1] if self.mode == "first alone" else PAIRS[self.pair]
        references = [bench.own_reference(concept, self.way) for concept in read]
        regions = [None] * len(read) if self.mode == "everywhere" else halves()[: len(read)]
        rule = bench.rule(references, self.way, regions)
        return bench.draw(words, self.seeds, self.way.sample, rule, references[0].place)


@dataclass(frozen=True)
class PairCeilingCell:
    """What the judge says of true pictures of a pair, painted side by side."""

    pair: int
    prompts: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Renders alone."""
        return RENDER_COST

    def play(self, bench: FlowBench) -> Numbers:
        """Per place, as `judge_pair` gives it, [prompts][4]."""
        rng, found = np.random.default_rng(SEED + 500 + self.pair), []
        things = [CONCEPTS[concept].thing for concept in PAIRS[self.pair]]
        for number in self.prompts:
            place = places_for(self.pair)[number]
            pictures = to_tensor([paint_couple(things, place, rng) for _ in range(4)])
            found.append(judge_pair(bench, self.pair, place, pictures))
        return {name: [numbers[name] for numbers in found] for name in found[0]}


def judge_pair(bench: JudgeScores, pair: int, place: str, pictures: Tensor) -> Numbers:
    """`judge_couple` on pictures of one pair."""
    return judge_couple(bench, PAIRS[pair], place, pictures)


def judge_couple(bench: JudgeScores, concepts: tuple[int, int], place: str, pictures: Tensor) -> Numbers:
    """The judge on both halves of pictures of one prompt, each cut out as a square and enlarged; a number a picture.

    left_first .. right_second  likeness of that half to that subject, 0..1
    nearer                      share of the halves that are more like their own subject than like the other
    noun                        share of the halves that show their subject's noun
    place                       whether the whole picture shows the place that was asked for
    """
    scales = [bench.scale(concept) for concept in concepts]
    with torch.no_grad():
        told = [bench.judge(crop) for crop in cut_halves(pictures)]
        whole = bench.judge(pictures)[0]["place"].argmax(dim=1)
    like = [[scale.of(identity) for scale in scales] for _, identity in told]
    nouns = [QUESTIONS["noun"].index(CONCEPTS[concept].thing.noun) for concept in concepts]
    values = dict(zip(SUBJECTS, (one.clamp(0, 1) for row in like for one in row), strict=True))
    values["nearer"] = ((like[0][0] > like[0][1]).float() + (like[1][1] > like[1][0]).float()) / 2
    answers = [answers["noun"].argmax(dim=1) for answers, _ in told]
    values["noun"] = torch.stack([a == n for a, n in zip(answers, nouns, strict=True)]).float().mean(dim=0)
    values["place"] = (whole == QUESTIONS["place"].index(place)).float()
    return {name: plain_numbers(value) for name, value in values.items()}


def cut_halves(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The left and the right object of pictures [b 3 h w], each a square at a picture's size, as the judge takes it."""
    left, right = (pictures[:, :, TOP : TOP + SIDE, x : x + SIDE] for x in (0, SIDE))
    size = (PICTURE_SIZE, PICTURE_SIZE)
    return interpolate(left, size=size, mode="bilinear"), interpolate(right, size=size, mode="bilinear")


def pair_cells(panel: Panel, setting: PairSetting) -> list[PairCell]:
    """One cell for each pair of the panel."""
    return [PairCell(pair, setting.mode, setting.way, panel.prompts, panel.seeds) for pair in panel.concepts]
