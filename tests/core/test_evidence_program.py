"""The command `evidence` from end to end, on a small world with random weights: what it writes, keeps and refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dci_core.errors import PackError
from dci_core.program.main import main
from dci_core.tiny.defaults import TINY_ICO, TINY_SAMPLE
from dci_core.tiny.evidence import protocol, study
from dci_core.tiny.evidence.protocol import Ground, Panel, Size

from .program_calls import sentence

DIALS = {"dci", "strength_dial", "cfg_dial", "prompt_weight_dial", "checkpoint_dial", "prompt_swap_dial"}
PANEL = Panel(concepts=(8, 9), seeds=(0,), prompts=(0, 4))
ONE = Panel(concepts=(8,), seeds=(0,), prompts=(0, 4))
MICRO = Size(
    "quick",
    dials=PANEL,
    curve=PANEL,
    variants=ONE,
    anatomy=ONE,
    judge=PANEL,
    candidates=ONE,
    later=1,
    sample=replace(TINY_SAMPLE, num_steps=2),
    step_counts=(2, 3),
)
GROUND = Ground("varied", replace(TINY_ICO, batch=1), earlier=(1,), main=2, later=(3,))


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two concepts, two prompts, one seed; two steps of sampling, three of training."""
    monkeypatch.setitem(protocol.SIZES, "quick", MICRO)
    monkeypatch.setattr(protocol, "GROUND", GROUND)


def words(weights: Path, out: Path, *more: str) -> list[str]:
    return ["evidence", "--quick", "--weights", str(weights), "--out", str(out), "--workers", "1", *more]


def test_a_whole_study_writes_its_tables_plots_report_and_summary(micro: None, weights: Path, tmp_path: Path) -> None:
    assert main(words(weights, tmp_path)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["hypervolume"]) == DIALS | {"ico", "fixed_template"}
    assert set(summary["prompt_following_at_95_likeness"]) == DIALS
    for part in (summary, summary["low_prior"]):
        for name in ("hypervolume", "prompt_following_at_95_likeness"):
            for found in part[name].values():
                assert set(found) == {"value", "low", "high"} and 0 <= found["low"] <= found["high"] <= 1
    for name in ("training", "inference", "anatomy", "guidance", "judge"):
        with open(tmp_path / f"{name}.csv", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) > 5
    for name in ("frontier", "reach", "controls", "training", "window", "anatomy", "guidance"):
        with Image.open(tmp_path / f"{name}.png") as drawn:
            assert drawn.width > 800
        assert f"({name}.png)" in (tmp_path / "report.md").read_text()
