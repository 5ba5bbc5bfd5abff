"""From finished cells to tables: scores as arrays, a row for each setting, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files import write_bytes
from ..gates.concepts import LEAST_LIKENESS
from .cells import key_of, picture_cells
from .dials import Setting, Way
from .judge_scores import Numbers
from .protocol import LOW_PRIOR, Ground, Panel, Training
from .statistics import Array, Measured, drawn_means, mean, measured

MEASURES = ("likeness", "following", "both", "noun")
Results = Mapping[str, Numbers]
NumbersByName = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scores:
    """Every picture of one setting, each [concepts prompts seeds].

    likeness, following  0..1
    both                 likeness of 0.7 or more, and everything that was asked
    noun                 whether the judge sees the noun
    """

    likeness: Array
    following: Array
    both: Array
    noun: Array

    def on(self, prompts: Sequence[int]) -> Scores:
        """The same on some of the prompts, by their place in the panel."""
        return Scores(*(getattr(self, name)[:, list(prompts)] for name in MEASURES))


@dataclass(frozen=True)
class Row:
    """One setting in a table; `low_prior` the same on low-prior prompts alone, or None where there is none."""

    group: str
    name: str
    scores: Scores
    low_prior: Scores | None

    def plain(self) -> dict[str, Any]:
        """As a line of CSV: each measure with its interval, then the same on low-prior prompts."""
        concepts, prompts, seeds = self.scores.likeness.shape
        line: dict[str, Any] = {"group": self.group, "setting": self.name, "concepts": concepts}
        line["pictures"] = concepts * prompts * seeds
        for prefix, scores in (("", self.scores), ("low_prior_", self.low_prior)):
            for name in MEASURES if scores is not None else ():
                found = mean(getattr(scores, name))
                line |= {f"{prefix}{name}{end}": value for end, value in ends(found).items()}
        return line


def ends(found: Measured) -> dict[str, float]:
    """The three numbers under the endings of their columns."""
    return {"": round(found.value, 4), "_low": round(found.low, 4), "_high": round(found.high, 4)}


def scores_of(results: Results, cells: Sequence[object]) -> Scores:
    """The cells' pictures; one cell for each concept."""
    found = [results[key_of(cell)] for cell in cells]
    likeness, following, has_all, noun = (
        np.array([one[name] for one in found], dtype=np.float64)
        for name in ("likeness", "following", "has_all", "has_noun")
    )
    return Scores(likeness, following, (likeness >= LEAST_LIKENESS) * has_all, noun)


def row_of(
    results: Results, group: str, setting: Setting, panel: Panel, training: Training, step: int, way: Way | None = None
) -> Row:
    """One setting's row over a panel."""
    cells = picture_cells(panel, training, setting.step or step, way or setting.way)
    return make_row(results, group, setting.name, cells, panel.prompts)


def make_row(results: Results, group: str, name: str, cells: Sequence[object], prompts: Sequence[int]) -> Row:
    """The row of some cells, one for each concept, each asking these prompts."""
    return row_from(group, name, scores_of(results, cells), prompts)


def row_from(group: str, name: str, scores: Scores, prompts: Sequence[int]) -> Row:
    """The row of scores over these prompts."""
    low = [i for i, number in enumerate(prompts) if number in LOW_PRIOR]
    return Row(group, name, scores, scores.on(low) if low else None)


def rows_of(results: Results, groups: Mapping[str, Sequence[Setting]], panel: Panel, ground: Ground) -> list[Row]:
    """A row for each setting of these groups."""
    return [
        row_of(results, group, setting, panel, ground.training, ground.main)
        for group, settings in groups.items()
        for setting in settings
    ]


def difference(one: Array, other: Array) -> Measured:
    """The mean of one minus that of the other, over the same draws."""
    return measured(drawn_means(one) - drawn_means(other))


def write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """The lines as CSV, columns in the order of their first appearance; raises NotSaved."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_bytes(path, text.getvalue().encode())
