"""When to stop a training: one step for all, a size of the change, or whoever looks at previews.

What a rule needs to know (a step, a share) is chosen on development concepts; every rule is then read on test concepts,
on the prompts that nobody looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cells import Bench, PictureCell, key_of, picture_cells
from .dials import Way
from .ground import Lesson
from .judge_scores import Numbers
from .protocol import Ground, Panel, Size, Training
from .statistics import mean
from .study_equal import steps_of
from .tables import MEASURES, Results, Scores, difference, scores_of

LOOKED_AT, READ = (0, 2, 4, 6), (1, 3, 5, 7)  # prompts of a preview, and those that a rule is read on: half low-prior
SHOWN = ("likeness", "following", "both")
BOUND = "best by what is read: a bound"
Rule = Callable[[int], int]
"""The step at which a concept's training ends."""


@dataclass(frozen=True)
class ShareCell:
    """How large a checkpoint's change of key and value weights is, beside the weights."""

    concept: int
    training: Training
    step: int

    @property
    def lesson(self) -> Lesson | None:
        """The checkpoint."""
        return Lesson(self.concept, self.training, (self.step,))

    @property
    def cost(self) -> int:
        """Nothing is drawn."""
        return 1

    def play(self, bench: Bench) -> Numbers:
        """share: the norm of all changes over that of all weights that they change."""
        changes = bench.shelf.load(self.concept, self.training, self.step).weights()
        weights = dict(bench.world.model.unet.named_parameters())  # type: ignore[attr-defined]  # of the small U-Net
        squares = [
            sum(float(x.double().square().sum()) for x in found)
            for found in (changes.values(), (weights[key].detach() for key in changes))
        ]
        return {"share": round(math.sqrt(squares[0] / squares[1]), 6)}


@dataclass(frozen=True)
class Curves:
    """Every checkpoint of a panel's concepts: scores [concepts prompts seeds], and how large its change is."""

    concepts: tuple[int, ...]
    scores: Mapping[int, Scores]
    shares: Mapping[tuple[int, int], float]

    @classmethod
    def of(cls, panel: Panel, ground: Ground, results: Results, way: Way) -> Curves:
        """From finished cells, drawn this way."""
        scores = {
            step: scores_of(results, picture_cells(panel, ground.training, step, way)) for step in steps_of(ground)
        }
        cells = share_cells(panel, ground)
        return cls(panel.concepts, scores, {(c.concept, c.step): results[key_of(c)]["share"] for c in cells})

    def ended(self, rule: Rule, prompts: Sequence[int]) -> Scores:
        """The scores where the rule ends each concept's training, on some of the prompts."""
        parts = [self.scores[rule(concept)].on(prompts) for concept in self.concepts]
        one = [[getattr(part, name)[i] for i, part in enumerate(parts)] for name in MEASURES]
        return Scores(*(np.stack(rows) for rows in one))

    def at_share(self, share: float) -> Rule:
        """The first checkpoint whose change is as large; the last where none is."""
        steps = list(self.scores)
        return lambda concept: next((s for s in steps if self.shares[concept, s] >= share), steps[-1])

    def looked_at(self, prompts: Sequence[int]) -> Rule:
        """The checkpoint with most pictures that have both, by these prompts; of equals that with more in all."""

        def rule(concept: int) -> int:
            place = self.concepts.index(concept)

            def worth(step: int) -> tuple[float, float]:
                seen = self.scores[step].on(prompts)
                return float(seen.both[place].mean()), float((seen.likeness + seen.following)[place].mean())

            return max(self.scores, key=worth)

        return rule


def share_cells(panel: Panel, ground: Ground) -> list[ShareCell]:
    """A panel's checkpoints."""
    return [ShareCell(concept, ground.training, step) for concept in panel.concepts for step in steps_of(ground)]


def cells(size: Size, ground: Ground) -> list[PictureCell | ShareCell]:
    """Every checkpoint of development and of test concepts, drawn plainly and measured."""
    found: list[PictureCell | ShareCell] = []
    for panel in (size.candidates, size.curve):
        for step in steps_of(ground):
            found += picture_cells(panel, ground.training, step, size.plain)
        found += share_cells(panel, ground)
    return found


def choose(curves: Curves) -> tuple[int, float]:
    """(step, share of the weights) with most pictures that have both; of equals the earlier."""

    def worth(rule: Rule) -> float:
        return float(curves.ended(rule, READ + LOOKED_AT).both.mean())

    step = max(curves.scores, key=lambda step: (worth(lambda _: step), -step))
    share = max(sorted(set(curves.shares.values())), key=lambda share: (worth(curves.at_share(share)), -share))
    return step, share


def stopping(size: Size, ground: Ground, results: Results) -> dict[str, Any]:
    """Per rule where it ends a test concept's training and what it reaches there, beside the ground's own step."""
    development, test = (Curves.of(panel, ground, results, size.plain) for panel in (size.candidates, size.curve))
    step, share = choose(development)
    rules: dict[str, Rule] = {
        f"step {ground.main}, today's": lambda _: ground.main,
        f"step {step}": lambda _: step,
        f"change of {share:.3f} of the weights": test.at_share(share),
        f"best of {len(LOOKED_AT)} previews": test.looked_at(LOOKED_AT),
        BOUND: test.looked_at(READ),
    }
    today = test.ended(next(iter(rules.values())), READ)
    told = {}
    for name, rule in rules.items():
        found, steps = test.ended(rule, READ), [rule(concept) for concept in test.concepts]
        told[name] = {
            "steps": {"least": min(steps), "mean": round(sum(steps) / len(steps), 1), "most": max(steps)},
            "reached": {measure: mean(getattr(found, measure)).row() for measure in SHOWN},
            "minus today's": {
                measure: difference(getattr(found, measure), getattr(today, measure)).row() for measure in SHOWN
            },
        }
    shares = {step: [test.shares[concept, step] for concept in test.concepts] for step in test.scores}
    return {
        "rules": told,
        "shares": {step: [min(found), sum(found) / len(found), max(found)] for step, found in shares.items()},
    }
