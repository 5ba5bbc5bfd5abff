"""The study's smallest pieces of work on single subjects: pictures judged, poses read, the router asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...dynaip.fusion import level_entropy
from ...text.tokens import PLACEHOLDER
from ...tiny.flow.sampling import FlowSettings
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.scene import Pose, Scene, render
from ...tiny.world.words import PLACES
from ..dci.judge_scores import Numbers, judge_panel, plain_numbers
from ..dci.protocol import Panel
from ..gates.trial import asks_for, to_tensor
from .bench import FlowBench
from .pose import DESIGN, FACTORS, LEVEL, SEED, SIDES, measure, posed_references, truth_of
from .ways import Way

RENDER_COST = 400  # rows times steps that take as long as one estimator's renders
REAL = 24  # renders on which the estimator of poses is tried


def picture_cost(count: int, sample: FlowSettings) -> int:
    """Rows times steps of so many pictures: two rows each with guidance."""
    return count * sample.num_steps * (1 if sample.cfg == 1 else 2)


def words_for(concept: int, number: int) -> str:
    """One of the concept's eight prompts, with its plain noun: the look comes from the reference alone."""
    thing = CONCEPTS[concept]
    return asks_for(thing)[number].template.replace(PLACEHOLDER, thing.thing.noun)


@dataclass(frozen=True)
class SubjectCell:
    """All prompts and seeds of one concept drawn one way and judged."""

    concept: int
    way: Way
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Of the pictures."""
        return picture_cost(len(self.prompts) * len(self.seeds), self.way.sample)

    def play(self, bench: FlowBench) -> Numbers:
        """Per picture [prompts][seeds]: likeness, following, has_all, has_noun."""
        return judge_panel(bench, self.concept, self.prompts, self.draw(bench))

    def draw(self, bench: FlowBench) -> Tensor:
        """[(prompts seeds) 3 128 128] in 0..1, on the CPU."""
        words = [words_for(self.concept, number) for number in self.prompts]
        if not self.way.adapter:
            return bench.draw(words, self.seeds, self.way.sample, None, "attention")
        reference = bench.own_reference(self.concept, self.way)
        rule = bench.rule([reference], self.way)
        return bench.draw(words, self.seeds, self.way.sample, rule, reference.place)


@dataclass(frozen=True)
class PoseCell:
    """All prompts and seeds of one concept, drawn with each of eight references of known pose and light."""

    concept: int
    way: Way
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Of the pictures."""
        return picture_cost(len(DESIGN) * len(self.prompts) * len(self.seeds), self.way.sample)

    def play(self, bench: FlowBench) -> Numbers:
        """Each factor of the samples, [prompts][seeds][8]; under "truth" that of the references, [8]."""
        posed, shape = posed_references(CONCEPTS[self.concept]), (len(self.prompts), len(self.seeds))
        words = [words_for(self.concept, number) for number in self.prompts]
        seen: dict[str, list[list[float]]] = {name: [] for name in FACTORS}
        for one in posed:
            reference = bench.reference([one.rendered], self.way)
            rule = bench.rule([reference], self.way)
            pictures = bench.draw(words, self.seeds, self.way.sample, rule, reference.place)
            for name, values in measure(pictures, bench.templates_for(self.concept)).items():
                seen[name].append(values)
        found: Numbers = {name: np.array(v).T.reshape(*shape, len(posed)).tolist() for name, v in seen.items()}
        return {**found, "truth": {name: [round(one.truth[name], 5) for one in posed] for name in FACTORS}}


@dataclass(frozen=True)
class EstimatorCell:
    """The reading of poses on trial: renders of known pose in every place."""

    concept: int

    @property
    def cost(self) -> int:
        """Renders alone."""
        return RENDER_COST

    def play(self, bench: FlowBench) -> Numbers:
        """Each factor as read and, under "truth", as rendered, [pictures]."""
        rng, thing = np.random.default_rng(SEED + 500 + self.concept), CONCEPTS[self.concept].thing
        poses = [random_pose(rng) for _ in range(REAL)]
        scenes = [Scene(thing, list(PLACES)[i % len(PLACES)]) for i in range(REAL)]
        rendered = [render(scene, rng, pose) for scene, pose in zip(scenes, poses, strict=True)]
        truth = [truth_of(pose, one) for pose, one in zip(poses, rendered, strict=True)]
        read: Numbers = {**measure(to_tensor(rendered), bench.templates_for(self.concept))}
        return {**read, "truth": {name: [round(one[name], 5) for one in truth] for name in FACTORS}}


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose between the sides of the design."""
    x, half = (rng.uniform(*SIDES[name]) for name in ("x", "size"))
    return Pose(float(x), LEVEL + float(rng.uniform(-0.03, 0.03)), float(half), bool(rng.random() < 0.5))


@dataclass(frozen=True)
class RouterCell:
    """What the router says of one concept's reference pictures."""

    concept: int
    way: Way

    @property
    def cost(self) -> int:
        """Renders and the vision tower alone."""
        return RENDER_COST // 4

    def play(self, bench: FlowBench) -> Numbers:
        """shares [pictures][levels], shallowest first, and entropy [pictures] in 0..1."""
        weights = bench.reference(CONCEPTS[self.concept].references("varied"), self.way).weights.float().cpu()
        return {"shares": [plain_numbers(row) for row in weights], "entropy": plain_numbers(level_entropy(weights))}


def subject_cells(panel: Panel, way: Way) -> list[SubjectCell]:
    """One cell for each concept of the panel."""
    return [SubjectCell(concept, way, panel.prompts, panel.seeds) for concept in panel.concepts]


def pose_cells(panel: Panel, way: Way) -> list[PoseCell]:
    """One cell for each concept of the panel; which references are read is the design's."""
    return [PoseCell(concept, way, panel.prompts, panel.seeds) for concept in panel.concepts]
