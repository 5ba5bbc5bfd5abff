"""The command `score`: which picture belongs to which prompt, what comes out, and one sentence for bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dci_core.errors import BadSettings, SpanNotFound
from dci_core.program.main import main
from dci_core.score.prompts import plain_prompts, read_prompts

from ..encoder_folders import clip_folder, dino_folder
from ..program_calls import sentence

NAMES = ["1.png", "2.png", "10.png"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoders, references, three pictures, prompts for them, and two settings to compare."""
    root = tmp_path_factory.mktemp("score")
    clip_folder(root / "clip")
    dino_folder(root / "dino")
    for seed, folder in enumerate(("refs", "images", "many/plain", "many/dci")):
        draw(root / folder, seed)
    (root / "prompts.txt").write_text("a dog in the snow\n\na dog on a sofa\na fish\n", encoding="utf-8")
    return root


def draw(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / name)


def words(place: Path, *more: str, images: str = "images", prompts: str = "prompts.txt") -> list[str]:
    return [
        *("score", "--images", str(place / images), "--refs", str(place / "refs"), "--device", "cpu"),
        *("--prompts", str(place / prompts), "--clip", str(place / "clip"), "--dino", str(place / "dino"), *more),
    ]


def test_a_folder_gets_its_three_numbers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    (scores,) = found["settings"].values()
    assert list(found["settings"]) == ["images"] and found["frontier"] == []
    assert [each["name"] for each in scores["pictures"]] == NAMES  # as people count
    assert [each["prompt"] for each in scores["pictures"]] == ["a dog in the snow", "a dog on a sofa", "a fish"]
    for name in ("clip_t", "clip_i", "dino"):
        mean = np.mean([each[name] for each in scores["pictures"]])
        assert scores[name]["value"] == pytest.approx(mean) and scores[name]["low"] <= mean <= scores[name]["high"]
        assert -1 <= mean <= 1
    assert set(found["references"]) == {"pictures", "clip_i", "dino"}


def test_folders_of_settings_are_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, images="many")) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()] == ["CLIP-T", "dci", "plain", "references", "*"]
    assert main(words(place, "--json", images="many")) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["frontier"]) <= {"dci", "plain"} and found["frontier"]


def test_one_encoder_is_enough(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(place)
    at = given.index("--clip")
    assert main([*given[:at], *given[at + 2 :], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "dino" in found["settings"]["images"] and "clip_t" not in found["settings"]["images"]


def test_the_same_pictures_score_the_same_under_any_form_of_prompts(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = 'name,prompt\n10,a fish\n1.png,"a dog, in the snow"\n2,a dog on a sofa\n'
    (tmp_path / "p.csv").write_text(table, encoding="utf-8")
    named = {"2.png": "a dog on a sofa", "1": "a dog, in the snow", "10.png": "a fish"}
    (tmp_path / "p.json").write_text(json.dumps(named), encoding="utf-8")
    (tmp_path / "p.txt").write_text("a dog, in the snow\na dog on a sofa\na fish", encoding="utf-8")
    forms = [read_prompts(tmp_path / f"p.{form}", NAMES) for form in ("csv", "json", "txt")]
    assert forms[0] == forms[1] == forms[2] == ["a dog, in the snow", "a dog on a sofa", "a fish"]


def test_one_line_is_for_all_pictures(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a dog\n", encoding="utf-8")
    assert read_prompts(tmp_path / "p.txt", NAMES) == ["a dog"] * 3


def test_clip_reads_the_noun_alone() -> None:
    told = ["mydog dog in snow", "photo of MyDog  dog", "a {concept} on a sofa", "mydogs stay", "a mydog"]
    assert plain_prompts(told, "mydog", "dog") == [
        "dog in snow",
        "photo of dog",
        "a dog on a sofa",
        "mydogs stay",
        "a dog",
    ]
    assert plain_prompts(["<new1> dog in snow"], "<new1>") == ["dog in snow"]
    assert plain_prompts(["a dog in snow"]) == ["a dog in snow"]
    with pytest.raises(BadSettings, match="noun"):
        plain_prompts(["a {concept}"])
    with pytest.raises(SpanNotFound, match="in no prompt"):
        plain_prompts(["a dog"], "mydog", "dog")


PROMPTS: dict[str, tuple[str, str, str]] = {
    "too few lines": ("p.txt", "a dog\na fish\n", "2 prompts for 3 pictures"),
    "no line": ("p.txt", "\n", "0 prompts for 3 pictures"),
    "picture missing": ("p.json", '{"1": "a", "2": "b"}', 'no prompt for "10.png"'),
    "prompt of none": ("p.json", '{"1": "a", "2": "b", "10": "c", "11": "d"}', 'a prompt for "11"'),
    "named twice": ("p.json", '{"1": "a", "2": "b", "10": "c", "1": "d"}', 'names "1" twice'),
    "no object": ("p.json", "[1]", "no list of prompts"),
    "broken": ("p.json", "{", "no list of prompts"),
    "other columns": ("p.csv", "file,text\n1,a\n", "lacks a name or a prompt"),
    "empty cell": ("p.csv", "name,prompt\n1,\n", "lacks a name or a prompt"),
    "other ending": ("p.yaml", "a", 'prompts file is "p.yaml"'),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_that_do_not_match_get_one_sentence(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text, expected = PROMPTS[name]
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert main(words(place, "--prompts", str(tmp_path / file))) == 2
    assert expected in sentence(capsys)


def empty(folder: Path) -> None:
    folder.mkdir()


def alone(folder: Path) -> None:
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(folder / "1.png")


def odd_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{", encoding="utf-8")


FOLDERS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no such images": ("--images", lambda folder: None, "cannot be read"),
    "empty images": ("--images", empty, "holds no picture"),
    "too few images": ("--images", alone, "3 prompts for 1 pictures"),
    "no such references": ("--refs", lambda folder: None, "cannot be read"),
    "empty references": ("--refs", empty, "holds no picture"),
    "one reference": ("--refs", alone, "at least 2 are expected"),
    "no such clip": ("--clip", lambda folder: None, "there is no model folder"),
    "no config": ("--clip", empty, "no readable config.json"),
    "broken config": ("--dino", odd_config, "no readable config.json"),
    "another class for clip": ("--clip", lambda folder: dino_folder(folder) and None, "a model of the type dinov2"),
    "another class for dino": ("--dino", lambda folder: clip_folder(folder) and None, "a model of the type clip"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_does_not_fit_gets_one_sentence(
    name: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option, make, expected = FOLDERS[name]
    make(tmp_path / "given")
    capsys.readouterr()
    assert main(words(place, option, str(tmp_path / "given"))) == 2
    assert expected in sentence(capsys)


def test_a_device_that_is_not_there_gets_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(place, "--device", "abacus")) == 2
    assert "abacus" in sentence(capsys)


def test_no_encoder_at_all_gets_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words(place)
    assert main(given[: given.index("--clip")]) == 2
    assert "--clip or --dino" in sentence(capsys)
