"""The command `adapter-evidence` from end to end, on a flow world with random weights: what it writes and refuses."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dci_core.dynaip.adapter import Adapter, default_params
from dci_core.dynaip.adapter_file import save_adapter
from dci_core.program.main import main
from dci_core.studies.dci import crew
from dci_core.studies.dci.ground import hash_paths
from dci_core.studies.dci.store import Store
from dci_core.studies.dynaip import protocol
from dci_core.studies.dynaip.bench import FlowBench
from dci_core.studies.dynaip.cells import SubjectCell
from dci_core.studies.dynaip.pairs import MODES, PairCell
from dci_core.studies.dynaip.protocol import Panel, Size
from dci_core.studies.dynaip.study import Plan, carry_out, cost_of, still_to_do
from dci_core.studies.dynaip.ways import THREE, Adapters, Way
from dci_core.tiny.flow.sampling import FlowSettings
from dci_core.tiny.flow.vision import VisionTower

from ...program_calls import sentence
from ...small_adapters import trained

METHODS = {"adapter", "trained_wiring", "last_level", "three_references", "text_scale", "granularity"}
ONE = Panel((9,), (0,), (1, 4))
MICRO = Size("quick", ONE, ONE, Panel((0,), (0,), (0, 1)), FlowSettings(num_steps=1))


def random_adapter(path: Path, seed: int, **changes: object) -> Path:
    torch.manual_seed(seed)
    adapter = Adapter(replace(default_params("tiny_flow"), **changes))
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.1)
    save_adapter(adapter, path)
    return path


@pytest.fixture(scope="module")
def flow_weights(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with a random MM-DiT, vision tower and adapter."""
    folder = tmp_path_factory.mktemp("flow") / "weights"
    shutil.copytree(weights, folder)
    save_file(VisionTower().state_dict(), folder / "vision.safetensors")
    random_adapter(folder / "adapter.safetensors", 1)
    return folder


@pytest.fixture
def micro(monkeypatch: pytest.MonkeyPatch) -> None:
    """One concept, two prompts, one pair, one seed, one step."""
    monkeypatch.setitem(protocol.SIZES, "quick", MICRO)


def words(weights: Path, out: Path, *more: str) -> list[str]:
    return ["adapter-evidence", "--quick", "--weights", str(weights), "--out", str(out), "--workers", "1", *more]


@pytest.mark.slow
def test_a_whole_study_writes_its_tables_plots_report_and_summary(
    micro: None, flow_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(words(flow_weights, out)) == 0
    last = random_adapter(tmp_path / "last.safetensors", 2, levels=(6,))
    before = len((out / "cells.jsonl").read_text().splitlines())
    assert main(words(flow_weights, out, "--last-layer", str(last))) == 0
    assert len((out / "cells.jsonl").read_text().splitlines()) == before + 5  # the scales of one concept
    summary = json.loads((out / "summary.json").read_text())
    for name in ("hypervolume", "prompt_following_at_95_likeness"):
        assert set(summary[name]) == METHODS | {"last_layer"}
        for found in summary[name].values():
            assert set(found) == {"value", "low", "high"} and 0 <= found["low"] <= found["high"] <= 1
    assert set(summary["copying"]) == {"x", "size", "side", "light"} and len(summary["pairs"]["all pairs"]) == 7
    assert len(summary["router"]["shares"]) == 3 and summary["estimator"]["x"] > 0.9
    for name in ("subjects", "copying", "pairs", "router"):
        with open(out / f"{name}.csv", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) >= 4
    for name in ("frontier", "reach", "text_scale", "granularity", "pairs", "router"):
        with Image.open(out / f"{name}.png") as drawn:
            assert drawn.width > 700
        assert f"({name}.png)" in (out / "report.md").read_text()
    written = (out / "summary.json").read_bytes()
    monkeypatch.setattr(crew, "play", None)  # nothing is left to play
    assert main(words(flow_weights, out, "--last-layer", str(last))) == 0
    assert (out / "summary.json").read_bytes() == written


def test_a_study_that_was_stopped_goes_on_with_what_is_left(flow_weights: Path, tmp_path: Path) -> None:
    path = flow_weights / "adapter.safetensors"
    plan = Plan(MICRO, Adapters(hash_paths([path])))
    bench = FlowBench(flow_weights, {plan.adapters.main: path})
    store = Store.open(tmp_path, plan.about(flow_weights))
    whole = still_to_do(plan, store)
    done = list(islice(carry_out(whole, bench, store, 1), 2))
    rest = still_to_do(plan, Store.open(tmp_path, plan.about(flow_weights)))
    assert len(rest) == len(whole) - 2 and cost_of(rest) + sum(done) == cost_of(whole)


def test_another_adapter_or_size_in_the_folder_is_refused(
    micro: None, flow_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(tmp_path, Plan(MICRO, Adapters("another")).about(flow_weights))
    assert main(words(flow_weights, tmp_path)) == 2
    assert "has another adapter: another, not" in sentence(capsys)
    other = replace(MICRO, sample=FlowSettings(num_steps=2))
    about = Plan(other, Adapters(hash_paths([flow_weights / "adapter.safetensors"]))).about(flow_weights)
    Store.open(tmp_path / "other", about)
    assert main(words(flow_weights, tmp_path / "other")) == 2
    assert "has another size (sample) (num_steps): 2, not 1" in sentence(capsys)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--workers", "0"], "0 workers were asked for"),
        (["--seeds", "0"], "0 seeds were asked for"),
        (["--concepts", "13"], "13 concepts were asked for"),
        (["--full"], "not allowed with"),
        (["--adapter", "none.safetensors"], 'there is no adapter "none.safetensors"'),
        (["--last-layer", "none.safetensors"], 'there is no adapter "none.safetensors"'),
    ],
)
def test_bad_options_get_one_sentence(
    more: list[str], told: str, flow_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(flow_weights, tmp_path, *more)) == 2
    assert told in sentence(capsys) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "told"), [({"family": "flux", "blocks": ()}, "is an adapter for flux"), ({}, "12 wide")]
)
def test_an_adapter_of_another_family_or_tower_gets_one_sentence(
    changes: dict[str, object], told: str, flow_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.safetensors"
    save_adapter(trained(**changes), path)
    assert main(words(flow_weights, tmp_path / "out", "--adapter", str(path))) == 2
    assert told in sentence(capsys) and not (tmp_path / "out").exists()


def test_missing_flow_weights_get_one_sentence(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(weights, tmp_path / "out")) == 2
    assert "small flow world" in sentence(capsys) and not (tmp_path / "out").exists()


def test_every_dial_changes_the_pictures_and_an_untrained_adapter_changes_no_bit(
    flow_weights: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.safetensors"
    save_adapter(Adapter(default_params("tiny_flow")), bare)
    bench = FlowBench(flow_weights, {"main": flow_weights / "adapter.safetensors", "bare": bare})
    base = Way(FlowSettings(num_steps=1), "main")

    def drawn(way: Way) -> torch.Tensor:
        return SubjectCell(9, way, (1,), (0,)).draw(bench)

    plain, own = drawn(replace(base, adapter="")), drawn(base)
    assert torch.equal(drawn(replace(base, adapter="bare")), plain) and torch.equal(drawn(base), own)
    changes = [
        {"adapter": ""},
        {"scale": 0.4},
        {"text_scale": 1.0},
        {"granularity": 1.0},
        {"last_level": True},
        {"references": THREE},
        {"cut_out": True},
        {"stranger": True},
    ]
    pictures = [own, *(drawn(replace(base, **change)) for change in changes)]  # type: ignore[arg-type]
    for i, one in enumerate(pictures):
        assert not any(torch.equal(one, other) for other in pictures[:i])


def test_pairs_are_read_in_their_halves(flow_weights: Path) -> None:
    bench = FlowBench(flow_weights, {"main": flow_weights / "adapter.safetensors"})
    base = Way(FlowSettings(num_steps=1), "main")

    def drawn(mode: str, text_scale: float = 0.0) -> torch.Tensor:
        return PairCell(0, mode, replace(base, text_scale=text_scale), (0,), (0,)).draw(bench, ["water"])

    pictures = [drawn("none"), *(drawn(mode, scale) for mode in MODES[1:] for scale in (0.0, 1.0))]
    for i, one in enumerate(pictures):
        assert not any(torch.equal(one, other) for other in pictures[:i])
    assert torch.equal(drawn("none"), drawn("none", 1.0))
