"""Bad input to the program gets one sentence and exit code 2, and nothing is written."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from safetensors.torch import save_file

from dci_core.concept.file import load_concept, save_concept
from dci_core.pictures import reference as pictures
from dci_core.program import training
from dci_core.program.main import main

from ..program_calls import sample_words, sentence, train_words


def spoil(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)


def tiny_picture(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "dot.png")


def captioned(folder: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    (folder / "a.txt").write_text("a teapot on a sofa")


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (lambda folder: None, "holds no picture"),
    "unreadable": (lambda folder: spoil(folder, "a.png", b"\x89PNG broken"), "cannot be read as a picture"),
    "tiny": (tiny_picture, "4x4 px"),
    "caption": (captioned, 'neither {concept} nor the noun "fish"'),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bad_folder_gets_one_sentence(
    name: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make, expected = FOLDERS[name]
    make(folder)
    assert main(train_words(weights, folder, tmp_path / "c.safetensors")) == 2
    assert expected in sentence(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_huge_picture_gets_one_sentence(
    weights: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    assert main(train_words(weights, images, tmp_path / "c.safetensors")) == 2
    assert "pixels" in sentence(capsys)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--noun", "submarine"], "cat, star, heart"),
        (["--steps", "0"], "steps is 0"),
        (["--learning-rate", "0"], "learning rate is 0"),
        (["--learning-rate", "nan"], "learning rate is nan"),
        (["--learning-rate", "much"], "invalid float value"),
        (["--rank", "0"], "rank is 0"),
        (["--trigger", "snow"], "snow"),
        (["--trigger", "two words"], "one word"),
        (["--out", "concept.png"], ".safetensors"),
        (["--resume"], "no unfinished training"),
        (["--save-every", "0"], "save every is 0"),
        (["--modifier-tokens", "40"], "modifier tokens"),
        (["--colour", "red"], "unrecognized"),
    ],
)
def test_a_bad_training_option_gets_one_sentence(
    more: list[str],
    expected: str,
    weights: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(train_words(weights, images, tmp_path / "c.safetensors", *more)) == 2
    assert expected in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_found_out_before_training(
    weights: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "train_steps", lambda *args: pytest.fail("training began"))
    (tmp_path / "file").write_text("in the way")
    assert main(train_words(weights, images, tmp_path / "file" / "c.safetensors")) == 2
    assert "takes no files" in sentence(capsys)
    (tmp_path / "c.safetensors").mkdir()
    assert main(train_words(weights, images, tmp_path / "c.safetensors")) == 2
    assert "is a folder" in sentence(capsys)


def test_a_full_disk_is_found_out_before_training(
    weights: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert main(train_words(weights, images, tmp_path / "c.safetensors")) == 2
    assert f'"{tmp_path}" has 0 MB free' in sentence(capsys) and list(tmp_path.iterdir()) == []


def test_a_missing_weight_file_gets_one_sentence(
    images: Path, concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_words(tmp_path, images, tmp_path / "c.safetensors")) == 2
    assert "codec.safetensors" in sentence(capsys)
    assert main(sample_words(tmp_path, concept, tmp_path / "g.png", "--plain")) == 2
    assert "is missing" in sentence(capsys)


@pytest.mark.parametrize(
    ("prompt", "more", "expected"),
    [
        ("a fish in snow", ["--plain"], "{concept}"),
        ("a fish in snow", ["--auxiliary", "cat"], "{concept}"),
        ("a {concept} in snow", ["--auxiliary", "fish"], "own class"),
        ("a {concept} in snow", ["--auxiliary", "submarine"], "cat, star, heart"),
        ("a {concept}, a cat, a star and a heart", [], "names cat, star, heart already"),
        ("a {concept} in snow" + " and snow" * 40, ["--auxiliary", "cat"], "tokens"),
        ("a {concept} in snow" + " and snow" * 40, ["--plain"], "tokens"),
        ("a {concept} in snow", ["--plain", "--steps", "0"], "0 steps"),
        ("a {concept} in snow", ["--plain", "--count", "0"], "0 pictures"),
        ("a {concept} in snow", ["--plain", "--seeds", "-1"], "seeds"),
        ("a {concept} in snow", ["--plain", "--cfg", "nan"], "CFG"),
        ("a {concept} in snow", ["--auxiliary", "cat", "--window", "2"], "window"),
        ("a {concept} in snow", ["--auxiliary", "cat", "--strength", "inf"], "strength"),
        ("a {concept} in snow", ["--auxiliary", "cat", "--layers", "roof"], "roof"),
        ("a {concept} in snow", ["--plain", "--out", "grid.txt"], ".png"),
    ],
)
def test_a_bad_sampling_option_gets_one_sentence(
    prompt: str,
    more: list[str],
    expected: str,
    weights: Path,
    concept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(sample_words(weights, concept, tmp_path / "g.png", *more, prompt=prompt)) == 2
    assert expected in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def make_bad_concept(kind: str, concept: Path, path: Path) -> None:
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"weights": 1}))
    elif kind == "cut":
        path.write_bytes(concept.read_bytes()[:999])
    elif kind == "family":
        save_concept(replace(load_concept(concept), family="sd15"), path)
    elif kind == "foreign":
        save_file({"x": load_concept(concept).tokens["clip_l"]}, path)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("pickle", "Python objects"),
        ("cut", "cut short"),
        ("family", "sd15"),
        ("foreign", "another kind"),
        ("missing", "check the path"),
    ],
)
def test_a_concept_that_does_not_fit_gets_one_sentence(
    kind: str, expected: str, weights: Path, concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.safetensors"
    make_bad_concept(kind, concept, bad)
    assert main(sample_words(weights, bad, tmp_path / "g.png", "--plain")) == 2
    assert expected in sentence(capsys) and not (tmp_path / "g.png").exists()
