"""The command `two-evidence` from end to end, on a flow world with random weights, and what its parts mean."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dci_core.concept.learned import Concept
from dci_core.program.main import main
from dci_core.studies.dci import crew
from dci_core.studies.dci.protocol import DEVELOPMENT, TEST, Panel
from dci_core.studies.dynaip.protocol import has_one_noun
from dci_core.studies.two import protocol
from dci_core.studies.two.bench import TwoBench, pair_for
from dci_core.studies.two.cells import places_of, template_for
from dci_core.studies.two.protocol import DEVELOPMENT_PAIRS, PAIRS, SIZES, Size
from dci_core.studies.two.report import write_report
from dci_core.studies.two.study import Plan, plan_of
from dci_core.studies.two.ways import APART, FOCUS, MASKS, REPORTED, STACKED, SWAPPED, WHOLE, Way
from dci_core.tiny.flow.concept_model import TinyFlowModel
from dci_core.tiny.flow.vision import VisionTower
from dci_core.tiny.world.concepts import CONCEPTS
from dci_core.tiny.world.words import NEVER

from ...program_calls import sentence

MICRO = Size("quick", Panel((0, 1), (0,), (0,)), steps=1, sample=replace(SIZES["quick"].sample, num_steps=2))


@pytest.fixture(scope="module")
def flow_weights(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with a random MM-DiT."""
    folder = tmp_path_factory.mktemp("flow") / "weights"
    shutil.copytree(weights, folder)
    save_file(VisionTower().state_dict(), folder / "vision.safetensors")
    return folder


def words(weights: Path, out: Path, *more: str) -> list[str]:
    return ["two-evidence", "--weights", str(weights), "--out", str(out), "--workers", "1", *more]


@pytest.mark.slow
def test_a_whole_study_goes_on_and_writes_its_report_and_summary(
    flow_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(protocol.SIZES, "quick", MICRO)
    out = tmp_path / "out"
    assert main(words(flow_weights, out, "--minutes", "0.0001")) == 0
    assert "cells are left" in capsys.readouterr().out and not (out / "summary.json").exists()
    assert main(words(flow_weights, out)) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["settings"]) == {setting.name for setting in REPORTED}
    assert set(summary["swapped"]) == {setting.name for setting in SWAPPED}
    assert set(summary["minus stacked"]) == {s.name for s in REPORTED} - {STACKED.name}
    assert 0 < summary["true pictures"]["nearer"]["value"] <= 1
    assert (out / "report.md").read_text() == write_report(summary)
    written = (out / "summary.json").read_bytes()
    monkeypatch.setattr(crew, "play", None)  # nothing is left to play
    assert main(words(flow_weights, out)) == 0 and (out / "summary.json").read_bytes() == written


def test_pairs_are_of_test_concepts_and_development_ones_apart() -> None:
    firsts, seconds = (sorted(pair[side] for pair in PAIRS) for side in (0, 1))
    assert firsts == seconds == sorted([*range(8, 14)] * 2) and set(firsts) <= set(TEST)
    assert len({frozenset(pair) for pair in PAIRS}) == 12
    assert {number for pair in DEVELOPMENT_PAIRS for number in pair} <= set(DEVELOPMENT)
    assert SIZES["full"].with_pairs(10).pairs.concepts == tuple(range(10))
    assert not any(map(has_one_noun, (*PAIRS, *DEVELOPMENT_PAIRS)))
    for pair in (*PAIRS, *DEVELOPMENT_PAIRS):
        never = {place for number in pair for place in NEVER[CONCEPTS[number].thing.noun]}
        assert not never & set(places_of(pair)) and len(places_of(pair)) > max(SIZES["full"].pairs.prompts)


def test_the_rule_was_tried_on_development_pairs_alone() -> None:
    tried = plan_of(SIZES["development"])
    assert tried.settings != Plan(SIZES["full"]).settings and not tried.swapped
    assert {cell.pair for s in tried.settings for cell in tried.drawn(s)} == set(DEVELOPMENT_PAIRS)


def concepts(model: TinyFlowModel) -> tuple[Concept, Concept]:
    vectors = {"clip_l": model.encoders["clip_l"].embed(torch.tensor([5, 6]))}
    one = Concept("tiny_flow", "myfish", "fish", vectors, {})
    return one, replace(one, trigger="ourfish")


def test_each_way_reads_the_prompt_as_it_says() -> None:
    model = TinyFlowModel.random(0)
    both = concepts(model)
    for concept in both:
        model = model.with_tokens(concept.trigger, concept.tokens)
    template = template_for("snow")
    plain, nothing = pair_for(model, both, template, STACKED.way)
    assert nothing is None and plain.concept == "a myfish fish in snow next to a ourfish fish"
    assert plain.auxiliary == "a cat in snow next to a star" and len(plain.tokens.concept.parts) == 2
    focus, _ = pair_for(model, both, template, FOCUS.way)
    assert focus.concept == plain.concept and focus.auxiliary == "a cat in snow next to a ourfish fish"
    assert focus.tokens.concept.span == plain.tokens.concept.parts[0] and not focus.tokens.concept.parts
    union, _ = pair_for(model, both, template, replace(WHOLE.way, stands="union"))
    assert union.tokens.concept.span == plain.tokens.concept.span and not union.tokens.concept.parts
    _, masks = pair_for(model, both, template, MASKS.way)
    _, apart = pair_for(model, both, template, APART.way)
    assert masks is not None and not masks.apart and masks.common == masks.others == 1
    assert apart is not None and apart.apart and apart.common is None and apart.parts[0].region is None
    left, right = (part.region for part in masks.parts)
    assert left is not None and right is not None and left[:, 0].all() and not right[:, 0].any()
    _, swapped = pair_for(model, both, template, Way(sides="swapped"))
    assert swapped is not None and swapped.parts[0].region is not None and swapped.parts[0].region[:, -1].all()


def test_a_concept_that_was_learned_is_taken_from_its_file(flow_weights: Path, tmp_path: Path) -> None:
    bench = TwoBench(flow_weights, tmp_path)
    bench.learn(9, MICRO.ico)
    stamp = bench.path(9, MICRO.ico).stat().st_mtime_ns
    bench.learn(9, MICRO.ico)
    assert bench.path(9, MICRO.ico).stat().st_mtime_ns == stamp
    assert bench.path(9, MICRO.ico) != bench.path(9, replace(MICRO.ico, steps=2))


@pytest.mark.parametrize(
    "more", [["--minutes", "0"], ["--seeds", "0"], ["--pairs", "13"], ["--workers", "0"], ["--full", "--quick"]]
)
def test_bad_options_get_one_sentence(
    more: list[str], flow_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(flow_weights, tmp_path, *more)) == 2
    assert sentence(capsys)
