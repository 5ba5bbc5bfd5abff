"""From finished cells to numbers with intervals: methods, copying, pairs, the router, the estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dci.cells import key_of
from ..dci.statistics import Array, Measured, Spots, drawn_means, mean
from ..dci.study_inference import SHARE, Reach, side
from ..dci.tables import Results, Row, Scores, difference, make_row
from .cells import pose_cells, subject_cells
from .pairs import SUBJECTS, PairSetting, pair_cells
from .pose import FACTORS, copying
from .protocol import PAIRS, has_one_noun
from .study import Plan
from .ways import NO_REFERENCE

PAIR_MEASURES = ("own", "leak", "nearer", "noun", "place")


def rows(plan: Plan, results: Results) -> list[Row]:
    """A row for each setting of single subjects."""
    panel = plan.size.subjects
    return [
        make_row(results, group, setting.name, subject_cells(panel, setting.way), panel.prompts)
        for group, settings in plan.groups.items()
        for setting in settings
    ]


def reaches(found: Sequence[Row], low_prior: bool = False) -> dict[str, Reach]:
    """Per method what it reaches; drawing without a reference belongs to each.

    Prompt-following is read off at 95% of the best likeness that any setting of any method has in that draw.
    """
    names = dict.fromkeys(row.group for row in found if row.group not in (NO_REFERENCE, "control"))
    plain = next(side(row, low_prior) for row in found if row.group == NO_REFERENCE)
    points = {name: [side(row, low_prior) for row in found if row.group == name] for name in names}
    best = np.max([drawn_means(one.likeness) for group in points.values() for one in group], axis=0)
    return {name: reach([*group, plain], best) for name, group in points.items()}


def reach(points: Sequence[Scores], best: Array) -> Reach:
    """Of one method's settings; best [1 + draws] the likeness to refer to."""
    spots = Spots.of([(one.likeness, one.following) for one in points])
    return Reach(spots.hypervolume(), spots.following_at(SHARE, best))


def from_decoupled(found: Sequence[Row], measures: Sequence[str]) -> dict[str, dict[str, Measured]]:
    """Per text scale above 0 what it changes against text scale 0, the same noise."""
    dial = [row for row in found if row.group == "text_scale"]
    return {
        row.name: {name: difference(getattr(row.scores, name), getattr(dial[0].scores, name)) for name in measures}
        for row in dial[1:]
    }


def copied(plan: Plan, results: Results) -> dict[str, dict[float, Array]]:
    """Per factor and text scale how much of the reference's change the samples show, [concepts prompts seeds]."""
    found: dict[str, dict[float, Array]] = {name: {} for name in FACTORS}
    for text_scale, way in plan.poses.items():
        numbers = [results[key_of(cell)] for cell in pose_cells(plan.size.poses, way)]
        for name in FACTORS:
            each = [copying(np.array(one[name]), one["truth"][name], name) for one in numbers]
            found[name][text_scale] = np.stack(each)
    return found


def pair_scores(found: Sequence[dict[str, Any]], mode: str) -> dict[str, Array]:
    """Each of PAIR_MEASURES, [pairs prompts seeds], of pairs' numbers.

    own   likeness of the halves to their own subject; where the first is read alone, of its half
    leak  likeness of the halves to the other subject; where the first is read alone, of the other half to it
    """
    values = {name: np.array([one[name] for one in found], dtype=np.float64) for name in found[0]}
    left_first, left_second, right_first, right_second = (values[name] for name in SUBJECTS)
    is_alone = mode == "first alone"
    own = left_first if is_alone else (left_first + right_second) / 2
    leak = right_first if is_alone else (left_second + right_first) / 2
    return {"own": own, "leak": leak, **{name: values[name] for name in PAIR_MEASURES[2:]}}


def pair_table(plan: Plan, results: Results, setting: PairSetting, one_noun: bool) -> dict[str, Array]:
    """One setting's scores over all pairs, or those of one noun alone."""
    cells = pair_cells(plan.size.pairs, setting)
    kept = [cell for cell in cells if not one_noun or has_one_noun(PAIRS[cell.pair])]
    return pair_scores([results[key_of(cell)] for cell in kept], setting.mode)


def ceiling_table(plan: Plan, results: Results) -> dict[str, Array]:
    """The same of true pictures."""
    return pair_scores([results[key_of(cell)] for cell in plan.ceilings()], "regions")


def router(plan: Plan, results: Results) -> tuple[list[Measured], Measured]:
    """(mean share of each level, shallowest first; mean entropy in 0..1), clustered by concept, then picture."""
    found = [results[key_of(cell)] for cell in plan.routers()]
    shares = np.array([one["shares"] for one in found])
    entropy = np.array([one["entropy"] for one in found])
    return [mean(shares[:, :, i, None]) for i in range(shares.shape[2])], mean(entropy[:, :, None])


def estimator(plan: Plan, results: Results) -> dict[str, float]:
    """How what is read of real pictures correlates with the truth, mean over concepts; of sides the share right."""
    found = [results[key_of(cell)] for cell in plan.estimators()]
    told = {}
    for name in FACTORS:
        pairs = [(np.array(one[name]), np.array(one["truth"][name])) for one in found]
        each = [np.mean(a == b) if name == "side" else np.corrcoef(a, b)[0, 1] for a, b in pairs]
        told[name] = round(float(np.mean(each)), 4)
    return told
