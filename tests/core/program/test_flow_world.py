"""The program on the small flow world: the same commands with `--world flow`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dci_core.concept.file import load_concept
from dci_core.ico.train import train_steps
from dci_core.program import training
from dci_core.program.main import main

from ..program_calls import sample_words, sentence, train_words

FLOW = ("--world", "flow")


@pytest.fixture(scope="module")
def concept(weights: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A concept of the flow world, of two steps."""
    path = tmp_path_factory.mktemp("flow") / "concept.safetensors"
    assert main(train_words(weights, images, path, *FLOW)) == 0
    return path


def test_training_writes_a_concept_of_the_flow_world(concept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [path.name for path in concept.parent.iterdir()] == ["concept.safetensors"]
    assert main(["info", str(concept), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["family"], about["layers"], about["settings"]["batch"]) == ("tiny_flow", 2, 1)
    assert load_concept(concept, family="tiny_flow").about.base_hash


def test_a_closed_window_draws_the_plain_picture_and_an_open_one_another(
    weights: Path, concept: Path, tmp_path: Path
) -> None:
    ways = {"plain": ["--plain"], "off": ["--auxiliary", "cat", "--window", "0"], "on": ["--auxiliary", "cat"]}
    ways["some"] = [*ways["on"], "--layers", "double0-1:0.5"]
    grids = {}
    for name, more in ways.items():
        assert main(sample_words(weights, concept, tmp_path / f"{name}.png", *FLOW, *more)) == 0
        grids[name] = (tmp_path / f"{name}.png").read_bytes()
    assert grids["plain"] == grids["off"] and len(set(grids.values())) == 3


def test_ctrl_c_keeps_the_training_and_resuming_gives_the_same_concept(
    weights: Path, images: Path, concept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*args: Any) -> Iterator[Any]:
        for report in train_steps(*args):
            if report.step == 1:
                raise_interrupt()
            yield report

    halved = tmp_path / "halved.safetensors"
    words = train_words(weights, images, halved, *FLOW)
    monkeypatch.setattr(training, "train_steps", stops)
    assert main(words) == 130
    monkeypatch.undo()
    assert main([*words, "--resume"]) == 0
    one, other = load_concept(halved), load_concept(concept)
    assert torch.equal(one.tokens["clip_l"], other.tokens["clip_l"])
    assert all(torch.equal(x, other.weights()[key]) for key, x in one.weights().items())


def raise_interrupt() -> None:
    """Ctrl-C."""
    import signal

    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((*FLOW, "--plain", "--spacing", "karras"), "a flow is spaced evenly"),
        ((*FLOW, "--plain", "--sampler", "ddim", "--eta", "1"), "fresh noise is a diffusion's"),
        ((*FLOW, "--auxiliary", "cat", "--layers", "in1"), "this model has them at double0 double1 single0"),
        (("--plain",), "is for tiny_flow; tiny was expected"),
        (("--world", "sd", "--plain"), "invalid choice"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    weights: Path, concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], told: str
) -> None:
    assert main(sample_words(weights, concept, tmp_path / "grid.png", *more)) == 2
    assert told in sentence(capsys)
    assert not (tmp_path / "grid.png").exists()
