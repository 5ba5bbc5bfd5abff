"""How many concepts, prompts and seeds the adapter's study asks; the split is the first study's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...tiny.flow.sampling import FlowSettings
from ...tiny.world.concepts import CONCEPTS
from ..dci.protocol import TEST, Panel, seeds

SIDED = ("fish", "bird", "turtle", "boat", "teapot")  # nouns that look left or right, so that a flip can be seen
POSED = tuple(c for c in TEST if CONCEPTS[c].thing.noun in SIDED)
ALONE = (0, 1, 4, 5)  # prompts without a companion, which would push the subject aside
PAIRS = ((9, 18), (10, 13), (11, 19), (12, 14), (8, 17), (15, 16))  # of test concepts; every second one of one noun


def has_one_noun(pair: tuple[int, int]) -> bool:
    """Whether both subjects are of one noun: only the reference can tell them apart."""
    one, other = (CONCEPTS[number].thing.noun for number in pair)
    return one == other


@dataclass(frozen=True)
class Size:
    """How large a study is.

    subjects  single subjects: text scale, scale, granularity, controls, the router
    poses     whose references are posed; prompts without a companion
    pairs     two subjects: numbers of PAIRS for concepts, of the pair's places for prompts
    sample    how every picture is drawn
    """

    name: str
    subjects: Panel
    poses: Panel
    pairs: Panel
    sample: FlowSettings = field(default_factory=FlowSettings)

    def with_seeds(self, count: int) -> Size:
        """The size with at most so many seeds everywhere; raises BadSettings."""
        subjects, poses, pairs = (panel.with_seeds(count) for panel in (self.subjects, self.poses, self.pairs))
        return replace(self, subjects=subjects, poses=poses, pairs=pairs)

    def with_concepts(self, count: int) -> Size:
        """The size with at most so many concepts, and pairs of them, everywhere; raises BadSettings."""
        subjects, poses, pairs = (panel.with_concepts(count) for panel in (self.subjects, self.poses, self.pairs))
        return replace(self, subjects=subjects, poses=poses, pairs=pairs)


QUICK = Size(
    "quick",
    subjects=Panel(TEST[:6], seeds(1)),
    poses=Panel(POSED[:3], seeds(1), ALONE),
    pairs=Panel((0, 1, 2), seeds(2), tuple(range(4))),
)
FULL = Size(
    "full",
    subjects=Panel(TEST, seeds(8)),
    poses=Panel(POSED, seeds(4), ALONE),
    pairs=Panel(tuple(range(len(PAIRS))), seeds(4), tuple(range(6))),
)
SIZES = {"quick": QUICK, "full": FULL}
