"""What the study of two concepts asks: pairs of test concepts, their places, seeds. Data in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...dci.run import SampleSettings
from ...ico.settings import IcoSettings
from ...tiny.defaults import TINY_FLOW_ICO, TINY_FLOW_SAMPLE
from ..dci.protocol import Panel, Training, asked_for, seeds

PAIRS = (  # of six test concepts of six nouns: each is in four pairs, first in two of them
    *((8, 9), (9, 13), (13, 12), (12, 8)),
    *((8, 10), (10, 13), (13, 11), (11, 8)),
    *((9, 10), (10, 12), (12, 11), (11, 9)),
)
DEVELOPMENT_PAIRS = ((0, 6), (1, 7), (2, 5), (3, 0))
STAND_INS = ("cat", "star")
TRAINING = Training("home", replace(TINY_FLOW_ICO, steps=1))
STEPS = 160


@dataclass(frozen=True)
class Size:
    """How large a study is.

    pairs     numbers of the pairs, of their places, and seeds
    of        the pairs, each two concepts
    training  of the concepts, and how many steps of it
    """

    name: str
    pairs: Panel
    of: tuple[tuple[int, int], ...] = PAIRS
    training: Training = TRAINING
    steps: int = STEPS
    sample: SampleSettings = field(default_factory=lambda: TINY_FLOW_SAMPLE)

    def with_seeds(self, count: int) -> Size:
        """The size with at most so many seeds; raises BadSettings."""
        return replace(self, pairs=self.pairs.with_seeds(count))

    def with_pairs(self, count: int) -> Size:
        """The size with at most so many pairs; raises BadSettings."""
        concepts = self.pairs.concepts[: asked_for(count, "pairs", len(PAIRS))]
        return replace(self, pairs=replace(self.pairs, concepts=concepts))

    @property
    def ico(self) -> IcoSettings:
        """How each concept is learned."""
        return replace(self.training.ico, steps=self.steps)

    def concepts(self) -> tuple[int, ...]:
        """Every concept of the pairs asked, rising."""
        return tuple(sorted({number for pair in self.pairs.concepts for number in self.of[pair]}))


SIZES = {
    "quick": Size("quick", Panel((0, 5, 10), seeds(1), (0, 1))),
    "full": Size("full", Panel(tuple(range(len(PAIRS))), seeds(2), (0, 1))),
    "development": Size("development", Panel((0, 1, 2, 3), seeds(3), (0, 1)), DEVELOPMENT_PAIRS),
}
