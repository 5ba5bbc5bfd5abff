"""The whole study: which cells there are, carrying them out, and their scores with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..dci.cells import key_of
from ..dci.crew import work
from ..dci.ground import hash_files
from ..dci.statistics import Array, mean
from ..dci.store import Store
from ..dci.study import Piece, play_cells
from ..dci.tables import Results, difference
from ..dynaip.tables import PAIR_MEASURES, pair_scores
from .bench import PARTS, TwoBench
from .cells import LearnCell, TrueCell, TwoCell
from .protocol import DEVELOPMENT_PAIRS, Size
from .ways import REPORTED, STACKED, SWAPPED, TRIED, Setting

JUDGE_PARTS = (*PARTS, "judge")
Cell = Piece[TwoBench]


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    settings  in the order of the prompt; swapped  against it
    """

    size: Size
    settings: tuple[Setting, ...] = REPORTED
    swapped: tuple[Setting, ...] = SWAPPED

    def pairs(self) -> list[tuple[int, int]]:
        """The pairs asked for."""
        return [self.size.of[number] for number in self.size.pairs.concepts]

    def lessons(self) -> list[LearnCell]:
        """Every concept of the pairs."""
        return [LearnCell(concept, self.size.ico) for concept in self.size.concepts()]

    def drawn(self, setting: Setting) -> list[TwoCell]:
        """One setting's cells, one for each pair."""
        size, panel = self.size, self.size.pairs
        return [TwoCell(pair, size.ico, setting.way, size.sample, panel.prompts, panel.seeds) for pair in self.pairs()]

    def true(self) -> list[TrueCell]:
        """True pictures of every pair."""
        return [TrueCell(pair, self.size.pairs.prompts) for pair in self.pairs()]

    def cells(self) -> dict[str, Cell]:
        """Every cell that gives numbers by its key, all settings of a pair together."""
        drawn = [cell for setting in (*self.settings, *self.swapped) for cell in self.drawn(setting)]
        drawn.sort(key=lambda cell: self.pairs().index(cell.pair))
        wanted: list[Cell] = [*self.true(), *drawn]
        return {key_of(cell): cell for cell in wanted}

    def about(self, weights: Path) -> dict[str, Any]:
        """What a resumed study must share with this one."""
        return {"size": asdict(self.size), "weights": hash_files(weights, JUDGE_PARTS)}


def plan_of(size: Size) -> Plan:
    """The settings that are reported; on development pairs those that were tried."""
    return Plan(size, TRIED, ()) if size.of is DEVELOPMENT_PAIRS else Plan(size)


def still_to_do(plan: Plan, store: Store, bench: TwoBench) -> tuple[list[LearnCell], list[tuple[str, Cell]]]:
    """(concepts to be learned, cells without a result)."""
    open_cells = [(key, cell) for key, cell in plan.cells().items() if key not in store.results]
    drawn = {number for _, cell in open_cells if isinstance(cell, TwoCell) for number in cell.pair}
    lessons = [each for each in plan.lessons() if each.concept in drawn]
    return [each for each in lessons if not bench.path(each.concept, each.ico).exists()], open_cells


def carry_out(
    lessons: Sequence[LearnCell], cells: Sequence[tuple[str, Cell]], bench: TwoBench, store: Store, workers: int
) -> Iterator[int]:
    """Does it all; yields each finished piece's cost. Stopped at any time, what is finished stays."""
    for i, _ in work(bench, lessons, workers):
        yield lessons[i].cost
    yield from play_cells(cells, bench, store, workers)


def scores(plan: Plan, results: Results, setting: Setting) -> dict[str, Array]:
    """One setting's measures, each [pairs prompts seeds]."""
    return pair_scores([results[key_of(cell)] for cell in plan.drawn(setting)], "regions")


def true_scores(plan: Plan, results: Results) -> dict[str, Array]:
    """The same of true pictures."""
    return pair_scores([results[key_of(cell)] for cell in plan.true()], "regions")


def summarise(plan: Plan, results: Results, weights: str, version: str) -> dict[str, Any]:
    """Everything that was measured; differences are from plain stacking, over the same draws."""
    found = {setting.name: scores(plan, results, setting) for setting in plan.settings}
    plain = found[STACKED.name]
    return {
        "version": version,
        "weights": weights,
        "size": plan.size.name,
        "pairs": [list(pair) for pair in plan.pairs()],
        "places": len(plan.size.pairs.prompts),
        "seeds": len(plan.size.pairs.seeds),
        "steps": plan.size.steps,
        "references": plan.size.training.kind,
        "settings": {name: means(one) for name, one in found.items()},
        "minus stacked": {
            name: {m: difference(one[m], plain[m]).row() for m in PAIR_MEASURES}
            for name, one in found.items()
            if name != STACKED.name
        },
        "swapped": {setting.name: means(scores(plan, results, setting)) for setting in plan.swapped},
        "true pictures": means(true_scores(plan, results)),
    }


def means(found: dict[str, Array]) -> dict[str, dict[str, float]]:
    """Each measure's mean with its interval."""
    return {name: mean(found[name]).row() for name in PAIR_MEASURES}
