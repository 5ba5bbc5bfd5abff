"""Rules for ending a training: what they need is chosen on development concepts, and they are read on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.file import save_concept
from dci_core.concept.learned import Concept
from dci_core.families.table import find_family
from dci_core.families.weight_names import weight_key
from dci_core.studies.dci import study_stop
from dci_core.studies.dci.cells import Bench, PictureCell, key_of
from dci_core.studies.dci.ground import Shelf
from dci_core.studies.dci.protocol import GROUND, QUICK, Panel
from dci_core.studies.dci.report_trials import stop_section
from dci_core.studies.dci.study_stop import BOUND, ShareCell, stopping
from dci_core.studies.dci.summary import asked_of
from dci_core.tiny.model import WEIGHTS

SIZE = replace(QUICK, candidates=Panel((0, 1), (0,)), curve=Panel((8, 9), (0,)))
QUICK_ONE, SLOW_ONE = 8, 9  # the first is ready when its change is 0.03, at step 40; the other too, at step 130
READY = {0: 70, 1: 70, QUICK_ONE: 40, SLOW_ONE: 130}


def share_of(concept: int, step: int) -> float:
    """A change that grows in a line and is 0.03 when the concept is ready."""
    return round(0.03 * step / READY[concept], 6)


def played(size: Any = SIZE) -> dict[str, Any]:
    """Made-up numbers: before a concept is ready it is not like, after it the prompt is lost."""
    results: dict[str, Any] = {}
    for cell in study_stop.cells(size, GROUND):
        if isinstance(cell, ShareCell):
            results[key_of(cell)] = {"share": share_of(cell.concept, cell.step)}
            continue
        like, follows = float(cell.step >= READY[cell.concept]), float(cell.step <= READY[cell.concept])
        names = {"likeness": like, "following": follows, "has_all": follows, "has_noun": 1.0}
        results[key_of(cell)] = {name: [[value]] * len(cell.prompts) for name, value in names.items()}
    return results


def test_a_share_of_the_weights_ends_each_training_where_it_is_ready() -> None:
    told = stopping(SIZE, GROUND, played())
    rules = told["rules"]
    assert list(rules) == [
        "step 160, today's",
        "step 70",
        "change of 0.030 of the weights",
        "best of 4 previews",
        BOUND,
    ]
    both = {name: one["reached"]["both"]["value"] for name, one in rules.items()}
    assert list(both.values()) == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert rules["change of 0.030 of the weights"]["steps"] == {"least": 40, "mean": 85.0, "most": 130}
    assert rules["best of 4 previews"]["minus today's"]["both"]["value"] == pytest.approx(1.0)
    asked = {"development": asked_of(SIZE.candidates), "test": asked_of(SIZE.curve)}
    page = stop_section({"stopping": told, "stop_asked": asked})
    assert "| 40 to 130, mean 85 |" in page and "chosen on 2 development objects" in page


def test_previews_are_not_what_is_read() -> None:
    results = played()
    for cell in study_stop.cells(SIZE, GROUND):
        if isinstance(cell, PictureCell) and cell.concept == QUICK_ONE and cell.step == 240:
            for name in (
                "likeness",
                "following",
                "has_all",
            ):  # previews that promise what the other prompts do not keep
                results[key_of(cell)][name] = [[float(prompt % 2 == 0)] for prompt in cell.prompts]
            results[key_of(cell)]["likeness"] = [[2.0 * (prompt % 2 == 0)] for prompt in cell.prompts]
    rules = stopping(SIZE, GROUND, results)["rules"]
    assert rules["best of 4 previews"]["steps"]["most"] == 240
    assert rules["best of 4 previews"]["reached"]["both"]["value"] == pytest.approx(0.5)
    assert rules[BOUND]["reached"]["both"]["value"] == pytest.approx(1.0)


def test_the_change_is_measured_beside_the_weights(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "made up")
    bench = Bench(WEIGHTS, shelf)
    weights = dict(bench.world.model.unet.named_parameters())  # type: ignore[attr-defined]

    layers = find_family("tiny").layers
    halves = {
        layer: LayerDelta(*(Delta(weights[weight_key(layer, part)].detach() / 2) for part in "kv")) for layer in layers
    }
    made = Concept("tiny", "zorp", "fish", {"clip_l": torch.zeros(1, 128)}, halves)
    path = shelf.path(0, GROUND.training, 20)
    path.parent.mkdir(parents=True)
    save_concept(made, path)
    assert ShareCell(0, GROUND.training, 20).play(bench)["share"] == pytest.approx(0.5, abs=1e-3)
