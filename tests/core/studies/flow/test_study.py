"""`evidence --world flow` from end to end on random weights: what it writes, how it goes on, what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from dci_core.program.main import main
from dci_core.studies.dci import crew
from dci_core.studies.dci.cells import Bench
from dci_core.studies.dci.ground import Shelf
from dci_core.studies.dci.protocol import DEVELOPMENT, TEST, Ground, Panel
from dci_core.studies.flow import protocol
from dci_core.studies.flow.gates import MapCell, PlaceCell
from dci_core.studies.flow.protocol import CANDIDATES, TEN_STEPS, FlowSize
from dci_core.studies.flow.report import conflict
from dci_core.studies.flow.settings import choice, inference
from dci_core.studies.worlds import PARTS, load_world
from dci_core.tiny.defaults import TINY_FLOW_DCI, TINY_FLOW_ICO

from ...program_calls import sentence

DIALS = {"dci", "strength_dial", "cfg_dial", "prompt_weight_dial", "checkpoint_dial", "prompt_swap_dial"}
MICRO = FlowSize(
    "quick",
    Panel((8, 9), (0,), (0, 4)),
    Panel((7,), (0,), (0, 4)),
    sample=replace(TEN_STEPS, num_steps=1),
)
GROUND = Ground("home", replace(TINY_FLOW_ICO, batch=1), earlier=(1,), main=2, later=())


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two concepts, two prompts, one seed; one step of sampling, two of training."""
    monkeypatch.setitem(protocol.SIZES, "quick", MICRO)
    monkeypatch.setattr(protocol, "GROUND", GROUND)


def words(weights: Path, out: Path, *more: str) -> list[str]:
    start = ["evidence", "--world", "flow", "--quick", "--weights", str(weights), "--out", str(out)]
    return [*start, "--workers", "1", *more]


@pytest.mark.slow
def test_a_whole_study_writes_its_tables_plots_report_and_summary(
    micro: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(words(weights, tmp_path, "--study", "gates,b,choice")) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["world"], summary["steps"], summary["sampling_steps"]) == ("flow", 2, 1)
    assert set(summary["hypervolume"]) == DIALS | {"whole_blend_dial"}
    blocks = {f"time 0.7, block {name}" for name in ("double0", "double1", "single0", "single3")}
    told = {one["what"] for one in summary["gates"]}
    assert blocks < told and {one["gate"] for one in summary["gates"]} == {"0 cheap", "0", "1", "2", "4"}
    for name in ("gates", "inference", "choice"):
        with open(tmp_path / f"{name}.csv", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) > 5
    report = (tmp_path / "report.md").read_text()
    for name in ("frontier", "reach", "controls"):
        with Image.open(tmp_path / f"{name}.png") as drawn:
            assert drawn.width > 800
        assert f"({name}.png)" in report
    assert "whole output blended" in report and "development objects 7 alone" in report
    written = (tmp_path / "summary.json").read_bytes()
    monkeypatch.setattr(crew, "play", None)  # nothing is left to play
    assert main(words(weights, tmp_path, "--study", "gates,b,choice")) == 0
    assert (tmp_path / "summary.json").read_bytes() == written


def test_choices_are_made_on_development_objects_alone() -> None:
    assert set(CANDIDATES) < set(DEVELOPMENT) and not set(CANDIDATES) & set(TEST)
    for size in protocol.SIZES.values():
        assert set(size.candidates.concepts) <= set(CANDIDATES) and set(size.dials.concepts) <= set(TEST)


def test_every_dial_has_as_many_settings_and_starts_from_plain_sampling() -> None:
    found = inference(protocol.FULL, protocol.GROUND)
    assert {len(found[name]) for name in DIALS | {"whole_blend_dial"}} == {4}
    (plain,) = found["plain"]
    assert plain.way.sample == TEN_STEPS and plain.way.dci is None
    ways = [setting.way for setting in (*found["dci"], *found["whole_blend_dial"]) if setting.way.dci is not None]
    assert [way.dci.blends_whole for way in ways if way.dci] == [False] * 4 + [True] * 4
    assert TINY_FLOW_DCI in [way.dci for way in ways]
    blocks = choice(protocol.FULL)["blocks"]
    masks = [setting.way.dci.layers.text for setting in blocks if setting.way.dci]
    assert len(masks) == 9 and masks[1:3] == ["double0 double1", "single0 single1 single2 single3"]


def test_the_map_gate_sees_every_block_and_the_place_gate_every_step(weights: Path, tmp_path: Path) -> None:
    bench = Bench(weights, Shelf(tmp_path, "w", "tiny_flow"), "cpu", "flow")
    found = MapCell(0.7, pictures_each=1).play(bench)
    assert set(found) == {"double0", "double1", "single0", "single1", "single2", "single3", "all"}
    assert all(0 <= value <= 1 for value in found.values()) and len(set(found.values())) > 1
    steps = PlaceCell(replace(MICRO, sample=replace(TEN_STEPS, num_steps=2)).plain, (0,)).play(bench)
    assert steps["times"] == pytest.approx([1.0, 0.6]) and len(steps["right"]) == 2


def test_each_world_is_loaded_with_the_parts_that_its_concepts_depend_on(weights: Path) -> None:
    for kind, family in (("unet", "tiny"), ("flow", "tiny_flow")):
        world = load_world(kind, weights, torch.device("cpu"))
        assert world.model.family == family
        assert not any(p.requires_grad for p in world.codec.parameters())
    assert set(PARTS["flow"]) - set(PARTS["unet"]) == {"mmdit"}


@pytest.mark.parametrize(
    ("more", "told"),
    [(["--study", "judge"], "some of gates (gates), b (inference), choice"), (["--concepts", "0"], "0 concepts")],
)
def test_what_this_world_has_not_got_gets_one_sentence(
    more: list[str], told: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(weights, tmp_path, *more)) == 2
    assert told in sentence(capsys) and list(tmp_path.iterdir()) == []


def test_many_objects_are_for_the_unet_alone(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "--world", "flow", "--many", "--weights", str(weights), "--out", str(tmp_path)]) == 2
    assert "--many came with --world flow" in sentence(capsys)


@pytest.mark.parametrize(("both", "told"), [(0.2, "too seldom"), (0.5, "as a fair ground has"), (0.9, "little to win")])
def test_the_report_says_how_much_there_is_to_win(both: float, told: str) -> None:
    def plain(share: float) -> dict[str, object]:
        numbers = {name: {"value": value} for name, value in (("likeness", 0.8), ("following", 0.9), ("both", share))}
        return {"inference": {"plain": {"plain": numbers}}}

    words = conflict({**plain(0.1), "low_prior": plain(both)})
    assert told in words and f"in {both:.2f} of low-prior pictures" in words
