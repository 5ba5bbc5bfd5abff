"""The judge is judged: its gates on renders and on the model's samples, controls, and the ceiling of real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from ...tiny.readings import Reading, auc, reading
from ...tiny.world.concepts import CONCEPTS
from ..gates.concepts import LEAST_LIKENESS
from .cells import Cell, key_of
from .judge_scores import Numbers
from .judging import BaseCell, CeilingCell, GateCell, OwnCell
from .protocol import Ground, Size
from .tables import Results


def own_cells(size: Size, ground: Ground) -> list[OwnCell]:
    """Plain samples of each concept."""
    panel = size.judge
    return [OwnCell(c, ground.training, ground.main, size.plain, panel.prompts, panel.seeds) for c in panel.concepts]


def ceilings(size: Size) -> list[CeilingCell]:
    """Real pictures of each concept."""
    return [CeilingCell(c) for c in size.judge.concepts]


def cells(size: Size, ground: Ground) -> list[Cell]:
    """Everything the study asks."""
    return [GateCell(), BaseCell(size.plain, size.judge.seeds), *ceilings(size), *own_cells(size, ground)]


def readings(size: Size, ground: Ground, results: Results) -> list[Reading]:
    """Every number of the study, those with a threshold first told by gate 6."""
    gate = [Reading(**row) for row in results[key_of(GateCell())]["readings"]]
    base = results[key_of(BaseCell(size.plain, size.judge.seeds))]
    own = [results[key_of(cell)] for cell in own_cells(size, ground)]
    real = [results[key_of(cell)] for cell in ceilings(size)]
    found = [
        *gate,
        *(reading("samples", f"attribute {q}, share right on the base's samples", v) for q, v in base.items()),
    ]
    found += [reading("samples", name, value) for name, value in verification(size.judge.concepts, own).items()]
    for name, value in controls(own, real).items():
        found.append(reading("controls", name, value))
    return found


def controls(own: Sequence[Numbers], real: Sequence[Numbers]) -> dict[str, float]:
    """Means over concepts: right questions, wrong ones, real pictures."""

    def over(numbers: Sequence[Numbers], name: str) -> float:
        return float(np.mean([np.mean(one[name]) for one in numbers]))

    enough = np.mean([np.mean(np.array(one["likeness"]) >= LEAST_LIKENESS) for one in real])
    return {
        "plain samples: likeness": over(own, "likeness"),
        "plain samples: likeness to another concept": over(own, "wrong_likeness"),
        "plain samples: prompt-following": over(own, "following"),
        "plain samples: following of another prompt": over(own, "shuffled_following"),
        "plain samples: all that another prompt asks is there": over(own, "shuffled_has_all"),
        "real pictures: likeness of one half to the other": over(real, "likeness"),
        "real pictures: share with likeness >= 0.7": float(enough),
        "real pictures: prompt-following": over(real, "following"),
        "real pictures: all that was asked is there": over(real, "has_all"),
    }


def verification(concepts: Sequence[int], own: Sequence[Numbers]) -> dict[str, float]:
    """Chance that two samples of one concept are nearer than samples of two, area under ROC."""
    vectors = [torch.tensor(one["identity"]) for one in own]
    same = torch.cat([pairs_within(v) for v in vectors])
    apart: dict[str, list[Any]] = {"any noun": [], "the same noun": []}
    for (a, one), (b, other) in combinations(zip(concepts, vectors, strict=True), 2):
        cosines = (one @ other.T).flatten()
        apart["any noun"].append(cosines)
        if CONCEPTS[a].thing.noun == CONCEPTS[b].thing.noun:
            apart["the same noun"].append(cosines)
    name = "verification on plain samples, area under ROC, concepts of"
    return {f"{name} {which}": auc(same, torch.cat(found)) for which, found in apart.items() if found}


def pairs_within(vectors: torch.Tensor) -> torch.Tensor:
    """Cosines of all pairs of different pictures."""
    cosines = vectors @ vectors.T
    return cosines[torch.triu(torch.ones_like(cosines), diagonal=1).bool()]
