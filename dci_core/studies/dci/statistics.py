"""Means, frontiers and their intervals: a paired bootstrap, clustered by concept and then by prompt.

Scores are [concepts prompts seeds]. Every draw takes concepts again, and prompts again within each, with all their
seeds; all methods see the same draws, so a difference has an interval of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SEED = 2718
ENDS = (0.025, 0.975)
Array = NDArray[np.float64]
Point = tuple[float, float]
"""(likeness, prompt-following)"""


@dataclass(frozen=True)
class Measured:
    """A number and its 95% interval."""

    value: float
    low: float
    high: float

    def row(self) -> dict[str, float]:
        """As plain data, rounded."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@lru_cache(maxsize=64)
def draw_weights(num_concepts: int, num_prompts: int, draws: int = DRAWS) -> Array:
    """[1 + draws concepts prompts]: the weight of each prompt's mean; the first row is the sample itself."""
    rng = np.random.default_rng(SEED)
    concepts = rng.integers(num_concepts, size=(draws, num_concepts))
    prompts = rng.integers(num_prompts, size=(draws, num_concepts, num_prompts))
    weights = np.zeros((draws, num_concepts, num_prompts))
    draw = np.arange(draws)[:, None, None]
    np.add.at(weights, (draw, concepts[:, :, None], prompts), 1.0)
    even = np.ones((1, num_concepts, num_prompts))
    return np.concatenate((even, weights)) / (num_concepts * num_prompts)


def drawn_means(scores: Array) -> Array:
    """[1 + draws] means of scores [concepts prompts seeds]; the first is the sample's own."""
    cells = scores.mean(axis=-1)
    return np.einsum("dcp,cp->d", draw_weights(*cells.shape), cells)


def measured(drawn: Array) -> Measured:
    """The sample's own value with the percentiles of the draws."""
    low, high = np.quantile(drawn[1:], ENDS)
    return Measured(float(drawn[0]), float(low), float(high))


def mean(scores: Array) -> Measured:
    """The mean of scores [concepts prompts seeds]."""
    return measured(drawn_means(scores))


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, from the most likeness to the most following."""
    kept: list[Point] = []
    for point in sorted(set(points), key=lambda p: (-p[0], -p[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def hypervolume(points: Sequence[Point]) -> float:
    """The area that the points dominate, from (0, 0): every (l, f) with l and f at most those of some point."""
    area, below = 0.0, 0.0
    for likeness, following in frontier(points):
        area += likeness * (following - below)
        below = following
    return area


def following_at(points: Sequence[Point], least_likeness: float) -> float:
    """The most following at that likeness, along straight lines between neighbours of the frontier.

    0 where no point is that like.
    """
    edge = frontier(points)
    if not edge or edge[0][0] < least_likeness:
        return 0.0
    for (l0, f0), (l1, f1) in zip(edge, edge[1:], strict=False):
        if l0 >= least_likeness > l1:
            return f0 + (f1 - f0) * (l0 - least_likeness) / (l0 - l1)
    return edge[-1][1]


@dataclass(frozen=True)
class Spots:
    """Settings of one method over all draws: likeness and following, [settings 1 + draws]."""

    likeness: Array
    following: Array

    @classmethod
    def of(cls, scores: Sequence[tuple[Array, Array]]) -> Spots:
        """From (likeness, following) of each setting, [concepts prompts seeds] each."""
        return cls(np.stack([drawn_means(a) for a, _ in scores]), np.stack([drawn_means(b) for _, b in scores]))

    def each(self, value: Callable[[Sequence[Point], int], float]) -> Array:
        """[1 + draws]: a value of the points of each draw, which is told its number."""
        points = np.stack((self.likeness, self.following), axis=-1).transpose(1, 0, 2)
        return np.array([value([(float(a), float(b)) for a, b in rows], d) for d, rows in enumerate(points)])

    def hypervolume(self) -> Array:
        """[1 + draws]."""
        return self.each(lambda points, d: hypervolume(points))

    def following_at(self, share: float, plain_likeness: Array) -> Array:
        """[1 + draws]: the most following at that share of plain likeness, which is of the same draw."""
        return self.each(lambda points, d: following_at(points, share * float(plain_likeness[d])))
