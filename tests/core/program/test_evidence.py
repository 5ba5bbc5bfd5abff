"""The command `evidence` from end to end, on a small world with random weights: what it writes, keeps and refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from dci_core.program.main import main
from dci_core.studies.dci import crew, protocol, study
from dci_core.studies.dci.cells import Bench
from dci_core.studies.dci.ground import Shelf
from dci_core.studies.dci.judging import CeilingCell
from dci_core.studies.dci.protocol import Ground, Panel, Size
from dci_core.studies.dci.store import Store
from dci_core.tiny.defaults import TINY_ICO, TINY_SAMPLE
from dci_core.tiny.model import WEIGHTS

from ..program_calls import sentence

DIALS = {"dci", "strength_dial", "cfg_dial", "prompt_weight_dial", "checkpoint_dial", "prompt_swap_dial"}
SHIFTED = {"dci_shifted", "dci_wide"}
PANEL = Panel(concepts=(8, 9), seeds=(0,), prompts=(0, 4))
ONE = Panel(concepts=(8,), seeds=(0,), prompts=(0, 4))
MICRO = Size(
    "quick",
    dials=ONE,
    curve=PANEL,
    variants=ONE,
    anatomy=ONE,
    judge=PANEL,
    candidates=ONE,
    sample=replace(TINY_SAMPLE, num_steps=1),
    step_counts=(2, 3),
)
GROUND = Ground("home", replace(TINY_ICO, batch=1), earlier=(1,), main=2, later=(3,))


MANY = replace(MICRO, name="many", dials=Panel(concepts=(8, 20), seeds=(0,), prompts=(0, 4)))


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two concepts, two prompts, one seed; two steps of sampling, three of training."""
    monkeypatch.setitem(protocol.SIZES, "quick", MICRO)
    monkeypatch.setattr(protocol, "GROUND", GROUND)


def words(weights: Path, out: Path, *more: str) -> list[str]:
    return ["evidence", "--quick", "--weights", str(weights), "--out", str(out), "--workers", "1", *more]


@pytest.mark.slow
def test_a_whole_study_writes_its_tables_plots_report_and_summary(
    micro: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    written = (tmp_path / "summary.json").read_bytes()
    monkeypatch.setattr(crew, "play", None)  # nothing is left to play
    assert main(words(weights, tmp_path)) == 0 and (tmp_path / "summary.json").read_bytes() == written


def test_a_study_that_was_stopped_goes_on_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [CeilingCell(number) for number in range(8, 12)]
    monkeypatch.setattr(study, "cells_of", lambda *asked: cells)
    plan, bench = study.Plan(MICRO, GROUND, ("a",)), Bench(WEIGHTS, Shelf(tmp_path / "concepts", "w"))

    def todo() -> tuple[study.Work, Store]:
        store = Store.open(tmp_path, plan.about(WEIGHTS))
        return study.still_to_do(plan, store, bench.shelf), store

    whole, store = todo()
    done = list(islice(study.carry_out(whole, bench, store, 1), 2))
    rest, again = todo()
    assert (len(whole.cells), len(rest.cells)) == (4, 2) and sum(done) + rest.cost == whole.cost
    assert list(study.carry_out(rest, bench, again, 1)) and todo()[0].cells == []


def test_many_objects_are_measured_in_stages_and_told_by_what_the_base_had_seen(
    micro: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(protocol.SIZES, "many", MANY)
    asked = words(weights, tmp_path, "--many", "--json")
    asked.remove("--quick")
    assert main([*asked, "--concepts", "13"]) == 2  # of twelve, unless there are more
    capsys.readouterr()
    assert main([*asked, "--minutes", "0"]) == 0  # stops after its first piece of work: a training
    assert json.loads(capsys.readouterr().out) == {"left": 56} and not (tmp_path / "report.md").exists()
    assert main(asked) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["by_look"]) == ["looks the base never saw", "looks in the base's training"]
    assert set(summary["dci_minus"]) == (DIALS | SHIFTED) - {"dci"} and "controls" not in summary
    assert set(summary["dci_wide_minus"]) == (DIALS | SHIFTED) - {"dci_wide"}
    assert "## By what the base had seen" in (tmp_path / "report.md").read_text()


def test_other_forms_are_tried_on_development_objects_and_told_beside_the_default(
    micro: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(MICRO, candidates=Panel(concepts=(0,), seeds=(0,), prompts=(0, 4)))
    monkeypatch.setitem(protocol.SIZES, "quick", small)
    assert main(words(weights, tmp_path, "--study", "forms")) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["forms"]) == set(summary["forms_minus_default"]) >= {"plain", "shift", "fade", "auxiliary noun"}
    report = (tmp_path / "report.md").read_text()
    assert "the surest map's at look 1 of 4" in report and "1 development objects, every prompt, seeds: 1." in report
    assert "Tried on the small world, from ICO at step 2" in report and "test concepts" not in report


def test_dials_are_tried_on_development_objects_and_their_power_is_told(
    micro: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(protocol.SIZES, "quick", replace(MICRO, candidates=Panel((0,), (0,), (0, 4))))
    assert main(words(weights, tmp_path, "--study", "dial")) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["dials_compared"]) == set(summary["dial"]) - {"plain"}
    assert "## Dials, tried on development concepts\n\n1 development objects" in (tmp_path / "report.md").read_text()
    capsys.readouterr()
    assert main(["evidence", "--power", str(tmp_path / "summary.json"), "--concepts", "48"]) == 0
    assert "| strength | changes on own words: following |" in capsys.readouterr().out


def test_a_box_is_tried_on_every_way(
    micro: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(protocol.SIZES, "quick", replace(MICRO, anatomy=replace(ONE, prompts=(4,))))
    assert main(words(weights, tmp_path, "--study", "layout")) == 0
    found = json.loads((tmp_path / "summary.json").read_text())["layout"]
    assert 0 <= found["centre_on_object"] <= 1 and 0 <= found["ways"]["DCI"]["hit"]["with"]["value"] <= 1
    assert "## A box for the concept" in (tmp_path / "report.md").read_text()


def test_the_power_of_a_study_is_told_from_a_finished_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lead = {"hypervolume": {"value": 0.1, "low": 0.002, "high": 0.198}}  # two standard errors from zero
    part = {"dci_minus": {"prompt_swap_dial": lead}}
    (tmp_path / "summary.json").write_text(json.dumps({"concepts": [0] * 12, "low_prior": part, **part}))
    assert main(["evidence", "--power", str(tmp_path / "summary.json"), "--concepts", "12"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line == "| prompt swap | hypervolume | +0.100 | 0.050 | 0.52 | 32 | 0.162 |"


def test_a_study_of_another_size_is_refused_before_any_work(
    micro: None, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(tmp_path, study.Plan(MICRO, GROUND, ("a",)).about(weights))
    assert main(words(weights, tmp_path, "--concepts", "1")) == 2
    assert "another size (curve)" in sentence(capsys) and not (tmp_path / "concepts").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--study", "x"], "the study 'x' was asked for"),
        (["--workers", "0"], "0 workers were asked for"),
        (["--seeds", "0"], "0 seeds were asked for"),
        (["--concepts", "13"], "13 concepts were asked for"),
        (["--power", "none.json"], '"none.json" holds no study of the dials'),
        (["--full"], "not allowed with"),
    ],
)
def test_bad_options_get_one_sentence(
    more: list[str], told: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(weights, tmp_path, *more)) == 2
    assert told in sentence(capsys) and list(tmp_path.iterdir()) == []


def test_missing_weights_get_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path / "none", tmp_path / "out")) == 2
    assert "is missing" in sentence(capsys) and not (tmp_path / "out").exists()
