"""The whole study: which cells there are, and carrying them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..dci.cells import key_of
from ..dci.ground import hash_files
from ..dci.store import Store
from ..dci.study import Piece, play_cells
from .bench import FlowBench
from .cells import EstimatorCell, RouterCell, pose_cells, subject_cells
from .pairs import PairCeilingCell, PairSetting, pair_cells, pair_settings
from .protocol import Size
from .ways import TEXT_SCALES, Adapters, Setting, Way, groups

PARTS = ("text", "codec", "mmdit", "vision", "judge")
FlowCell = Piece[FlowBench]


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    size: Size
    adapters: Adapters

    @property
    def groups(self) -> dict[str, tuple[Setting, ...]]:
        """Every setting of single subjects."""
        return groups(self.size.sample, self.adapters)

    @property
    def base(self) -> Way:
        """The adapter as it is meant to be used: scale 1, text scale 0."""
        return Way(self.size.sample, self.adapters.main)

    @property
    def poses(self) -> dict[float, Way]:
        """By text scale, how samples with posed references are drawn."""
        return {t: replace(self.base, text_scale=t, references=()) for t in TEXT_SCALES}

    @property
    def pairs(self) -> tuple[PairSetting, ...]:
        """How pairs are drawn."""
        return pair_settings(self.base)

    def routers(self) -> list[RouterCell]:
        """The router's cells, one for each concept."""
        return [RouterCell(concept, self.base) for concept in self.size.subjects.concepts]

    def estimators(self) -> list[EstimatorCell]:
        """The estimator's own trials, one for each posed concept."""
        return [EstimatorCell(concept) for concept in self.size.poses.concepts]

    def ceilings(self) -> list[PairCeilingCell]:
        """True pictures of every pair."""
        return [PairCeilingCell(pair, self.size.pairs.prompts) for pair in self.size.pairs.concepts]

    def cells(self) -> dict[str, FlowCell]:
        """Every cell by its key; one that several methods want stands here once."""
        wanted: list[FlowCell] = [*self.routers(), *self.estimators(), *self.ceilings()]
        for settings in self.groups.values():
            for setting in settings:
                wanted += subject_cells(self.size.subjects, setting.way)
        for way in self.poses.values():
            wanted += pose_cells(self.size.poses, way)
        for pair in self.pairs:
            wanted += pair_cells(self.size.pairs, pair)
        return {key_of(cell): cell for cell in wanted}

    def about(self, weights: Path) -> dict[str, Any]:
        """What a resumed study must share with this one; another last-layer adapter only adds cells."""
        return {"size": asdict(self.size), "weights": hash_files(weights, PARTS), "adapter": self.adapters.main}


def still_to_do(plan: Plan, store: Store) -> list[tuple[str, FlowCell]]:
    """The cells without a result, with their keys."""
    return [(key, cell) for key, cell in plan.cells().items() if key not in store.results]


def cost_of(cells: Sequence[tuple[str, FlowCell]]) -> int:
    """In rows times steps of the model, about."""
    return sum(cell.cost for _, cell in cells)


def carry_out(cells: Sequence[tuple[str, FlowCell]], bench: FlowBench, store: Store, workers: int) -> Iterator[int]:
    """Does it all; yields each finished piece's cost. Stopped at any time, what is finished stays."""
    return play_cells(cells, bench, store, workers)
