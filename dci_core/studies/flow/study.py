"""The study on the small flow world: its plan, its cells, and its numbers as one JSON file and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...fingerprint import as_data
from ...tiny.defaults import FLOW, TINY_FLOW_DCI
from ...version import VERSION
from ..dci.cells import Cell, cells_of, key_of
from ..dci.dials import AUXILIARY
from ..dci.ground import hash_files
from ..dci.judging import BaseCell
from ..dci.protocol import Ground
from ..dci.summary import inference, settings
from ..dci.tables import Results, Row, rows_of, write_csv
from ..worlds import PARTS
from .gates import MAP_TIMES, MapCell, PlaceCell, ToldCell
from .protocol import FlowSize
from .readings import readings
from .settings import Groups, choice
from .settings import inference as dials_and_controls

STUDIES = {"gates": "gates", "b": "inference", "choice": "choice"}
USUAL = "gates,b"  # `choice` came before them: its result stands in the defaults
JUDGE_PARTS = (*PARTS[FLOW], "judge")


@dataclass(frozen=True)
class FlowPlan:
    """What is asked for. studies: names of STUDIES, in their order."""

    size: FlowSize
    ground: Ground
    studies: tuple[str, ...]

    def groups(self, study: str) -> Groups:
        """The settings of a study that draws concepts."""
        return choice(self.size) if study == "choice" else dials_and_controls(self.size, self.ground)

    def cells(self) -> dict[str, Cell]:
        """Every cell by its key."""
        wanted: list[Cell] = []
        for study in self.studies:
            if study == "gates":
                wanted += gate_cells(self.size)
            else:
                panel = self.size.candidates if study == "choice" else self.size.dials
                wanted += cells_of(self.groups(study), panel, self.ground)
        return {key_of(cell): cell for cell in wanted}

    def rows(self, study: str, results: Results) -> list[Row]:
        """A row for each setting of a study that draws concepts."""
        panel = self.size.candidates if study == "choice" else self.size.dials
        return rows_of(results, self.groups(study), panel, self.ground)

    def about(self, weights: Path) -> dict[str, Any]:
        """What a resumed study must share with this one."""
        return {
            "world": FLOW,
            "size": as_data(self.size),
            "ground": as_data(self.ground),
            "dci": as_data(TINY_FLOW_DCI),
            "auxiliary": AUXILIARY,
            "weights": hash_files(weights, JUDGE_PARTS),
        }


def gate_cells(size: FlowSize) -> list[Cell]:
    """Everything that is asked of the base."""
    base = size.plain, size.gate_seeds
    return [*(MapCell(time) for time in MAP_TIMES), PlaceCell(*base), BaseCell(*base), ToldCell(*base)]


def summarise_flow(plan: FlowPlan, results: Results, weights: str) -> dict[str, Any]:
    """Everything that was measured, by study."""
    size, ground = plan.size, plan.ground
    found: dict[str, Any] = {
        "version": VERSION,
        "weights": weights,
        "world": FLOW,
        "size": size.name,
        "studies": list(plan.studies),
        "kind": ground.kind,
        "steps": ground.main,
        "sampling_steps": size.sample.num_steps,
        "concepts": list(size.dials.concepts),
        "development": list(size.candidates.concepts),
        "seeds": len(size.dials.seeds),
    }
    rows = plan.rows("b", results) if "b" in plan.studies else []
    if rows:
        found |= inference(rows)
    if "choice" in plan.studies:
        found["choice"] = settings(plan.rows("choice", results))
    if "gates" in plan.studies:
        found["gates"] = [one.row() for one in readings(size, results, rows)]
    return found


def write_flow_tables(plan: FlowPlan, results: Results, folder: Path) -> None:
    """A CSV for each study; raises NotSaved."""
    for study in plan.studies:
        lines: Sequence[dict[str, Any]]
        if study == "gates":
            rows = plan.rows("b", results) if "b" in plan.studies else []
            lines = [one.row() for one in readings(plan.size, results, rows)]
        else:
            lines = [row.plain() for row in plan.rows(study, results)]
        write_csv(folder / f"{STUDIES[study]}.csv", lines)
