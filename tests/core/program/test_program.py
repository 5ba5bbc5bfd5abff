"""The program, called as a user calls it, on a small world with random weights: what it writes, what it keeps."""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dci_core import files
from dci_core.concept.file import load_concept
from dci_core.errors import TrainingDiverged
from dci_core.ico.train import StepReport, train_steps
from dci_core.pictures import reference as pictures
from dci_core.program import demo, training
from dci_core.program.arguments import make_parser
from dci_core.program.main import main
from dci_core.tiny.defaults import TINY_DCI, TINY_ICO, TINY_SAMPLE
from dci_core.tiny.model import TinyModel

from ..program_calls import sample_words, sentence, train_words


def stopping_after(number: int) -> Callable[..., Iterator[StepReport]]:
    """train_steps with a Ctrl-C in that step."""

    def steps(*args: Any) -> Iterator[StepReport]:
        for report in train_steps(*args):
            if report.step == number:
                signal.raise_signal(signal.SIGINT)
            yield report

    return steps


def test_training_writes_a_concept_and_nothing_else(concept: Path) -> None:
    assert [path.name for path in concept.parent.iterdir()] == ["concept.safetensors"]
    learned = load_concept(concept, family="tiny")
    assert learned.phrase == "myfish fish" and learned.about.base_hash


def test_info_tells_what_the_file_holds(concept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(concept), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["family"], about["noun"], about["layers"], about["settings"]["steps"]) == ("tiny", "fish", 10, 2)
    assert main(["info", str(concept)]) == 0
    assert "myfish" in capsys.readouterr().out


def test_a_folder_of_concepts_is_listed_with_the_facts_of_the_picker(
    concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "my.safetensors").write_bytes(concept.read_bytes())
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    assert main(["concepts", str(tmp_path)]) == 0
    head, row = capsys.readouterr().out.strip().splitlines()
    assert head.split()[0] == "file" and row.startswith("sub/my.safetensors") and "myfish fish" in row
    assert main(["concepts", str(tmp_path), "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["concepts"]
    assert only["name"] == "sub/my.safetensors" and only["steps"] == 2 and only["picture"] and only["date"]
    assert main(["concepts", str(tmp_path / "gone")]) == 2
    assert "a folder was expected" in sentence(capsys)
    (tmp_path / "empty").mkdir()
    assert main(["concepts", str(tmp_path / "empty")]) == 0
    assert "no concept file" in capsys.readouterr().out


def options_of(parser: argparse.ArgumentParser, command: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """(command, option) of every option with a value that may be left out, in all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, part in action.choices.items():
                yield from options_of(part, name)
        elif action.option_strings and not action.required and action.nargs != 0:
            yield command, action


def test_help_tells_every_default() -> None:
    found = list(options_of(make_parser()))
    assert len(found) > 60
    silent = [(command, *action.option_strings) for command, action in found if "default" not in (action.help or "")]
    assert silent == []
    empty = [(command, *action.option_strings) for command, action in found if (action.help or "").startswith("(")]
    assert empty == []


def test_help_shows_the_defaults_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    for command, values in (
        ("train", (f"(default: {TINY_ICO.steps})", f"(default: {TINY_ICO.learning_rate:g})", "those that ship")),
        ("sample", (f"(default: {TINY_SAMPLE.cfg:g})", f"(default: {TINY_DCI.guidance})", "(default: all)")),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert all(value in shown for value in values), shown
        assert str(Path.home()) not in shown and str(Path(__file__).parents[3]) not in shown


def test_json_is_one_object_on_stdout(
    weights: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_words(weights, images, tmp_path / "c.safetensors", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert main(train_words(weights, tmp_path / "none", tmp_path / "d.safetensors", "--json")) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "BadPicture"


def test_a_closed_window_draws_the_plain_picture_and_an_open_one_another(
    weights: Path, concept: Path, tmp_path: Path
) -> None:
    ways = {
        "plain": ["--plain"],
        "off": ["--auxiliary", "cat", "--window", "0"],
        "on": ["--auxiliary", "cat"],
        "auto": [],
    }
    grids = {}
    for name, more in ways.items():
        assert main(sample_words(weights, concept, tmp_path / f"{name}.png", *more)) == 0
        grids[name] = (tmp_path / f"{name}.png").read_bytes()
    assert grids["plain"] == grids["off"] != grids["on"] == grids["auto"]


def test_several_prompts_and_seeds_make_a_grid(weights: Path, concept: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "grid.png"
    more = ["--prompt", "a {concept} at night", "--plain", "--seeds", "4", "5", "6"]
    assert main(sample_words(weights, concept, out, *more)) == 0
    with Image.open(out) as drawn:
        assert drawn.width > drawn.height > 512


def test_words_the_world_never_saw_are_named(
    weights: Path, concept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(sample_words(weights, concept, tmp_path / "g.png", "--plain", prompt="a {concept} on the moon")) == 0
    assert "moon" in capsys.readouterr().err


def test_a_concept_goes_out_as_lora_and_embedding(concept: Path, tmp_path: Path) -> None:
    lora, embedding = tmp_path / "lora.safetensors", tmp_path / "words.safetensors"
    assert main(["export", str(concept), "--lora", str(lora), "--embedding", str(embedding)]) == 0
    assert lora.stat().st_size > embedding.stat().st_size > 0


def test_custom_diffusions_weights_come_in(weights: Path, tmp_path: Path) -> None:
    unet, rng = TinyModel.random(3).unet, TinyModel.random(4).unet
    changed = {k: rng.state_dict()[k] for k in unet.state_dict() if ".attn2.to_k." in k or ".attn2.to_v." in k}
    torch.save({"state_dict": {**changed, "embed": {"<new1>": torch.ones(128)}}}, tmp_path / "delta.ckpt")
    words = ["import", str(tmp_path / "delta.ckpt"), "--weights", str(weights), "--noun", "fish", "--trigger", "sks"]
    assert main([*words, "--rank", "full", "--out", str(tmp_path / "c.safetensors")]) == 0
    key = next(iter(changed))
    expected = changed[key] - unet.state_dict()[key]
    assert torch.allclose(load_concept(tmp_path / "c.safetensors").weights()[key], expected, atol=1e-3)


def test_ctrl_c_keeps_the_training_and_resuming_gives_the_same_file(
    weights: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, halved = tmp_path / "whole.safetensors", tmp_path / "halved.safetensors"
    assert main(train_words(weights, images, whole, "--steps", "4")) == 0
    monkeypatch.setattr(training, "train_steps", stopping_after(2))
    words = train_words(weights, images, halved, "--steps", "4")
    assert main(words) == 130
    told = capsys.readouterr().err
    assert "stopped after step 2 of 4" in told and "--resume" in told and not halved.exists()
    monkeypatch.undo()
    assert main(words) == 2  # neither overwritten nor guessed
    assert main([*words, "--resume"]) == 0
    one, other = load_concept(halved), load_concept(whole)
    assert one.about == other.about and torch.equal(one.tokens["clip_l"], other.tokens["clip_l"])
    assert all(torch.equal(x, y) for x, y in zip(one.weights().values(), other.weights().values(), strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halved.safetensors", "whole.safetensors"]


def test_a_full_disk_at_the_end_keeps_the_training_and_the_older_concept(
    weights: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "c.safetensors"
    out.write_bytes(b"older")
    replaced = os.replace

    def full(source: str, to: Path) -> None:
        if to == out:
            raise OSError(errno.ENOSPC, "No space left on device")
        replaced(source, to)

    monkeypatch.setattr(files.os, "replace", full)
    assert main(train_words(weights, images, out)) == 2
    assert "No space left" in capsys.readouterr().err and out.read_bytes() == b"older"
    monkeypatch.undo()
    assert main(train_words(weights, images, out, "--resume")) == 0
    assert load_concept(out).noun == "fish"


def test_a_learning_rate_that_no_number_survives_is_refused_before_the_first_step(
    weights: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train_words(weights, images, tmp_path / "c.safetensors", "--steps", "20", "--learning-rate", "1e30")
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "the learning rate comes to" in told and "at most 1000 is expected" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("good_steps", [0, 1])
def test_a_diverging_loss_leaves_the_last_good_concept_and_a_training_that_goes_on(
    weights: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    good_steps: int,
) -> None:
    def steps(*args: Any) -> Iterator[StepReport]:
        yield from itertools.islice(train_steps(*args), good_steps)
        args[2].bad_draws = 10
        raise TrainingDiverged("the loss became nan in step 2", "a finite number was expected", "save what there is")

    def going_on(*args: Any) -> Iterator[StepReport]:
        found.append((args[2].step, args[2].bad_draws))
        return train_steps(*args)

    monkeypatch.setattr(training, "train_steps", steps)
    out, found, rescued = tmp_path / "c.safetensors", [], f"c-step{good_steps}.safetensors"
    assert main(train_words(weights, images, out)) == 2
    told = capsys.readouterr().err
    assert "--resume" in told and (f'"{rescued}"' in told) is bool(good_steps)
    names = {"c.training.safetensors", *([rescued] if good_steps else [])}
    assert {path.name for path in tmp_path.iterdir()} == names
    if good_steps:
        assert load_concept(tmp_path / rescued).about.loss["steps"] == 1
    monkeypatch.setattr(training, "train_steps", going_on)
    assert main(train_words(weights, images, out, "--resume")) == 0
    assert found == [(good_steps, 10)] and load_concept(out).noun == "fish"


def test_odd_pictures_are_read(weights: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    plain = pictures.open_image(images / "0.png")
    for mode in ("L", "RGBA", "P", "1"):
        plain.convert(mode).save(folder / f"{mode}.png")
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(folder / "deep.png")
    plain.save(folder / "moving.gif", save_all=True, append_images=[plain.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.save(folder / "turned.jpg", exif=exif)
    plain.save(folder / "small.webp")
    (folder / "notes.md").write_text("no picture")
    assert main(train_words(weights, folder, tmp_path / "c.safetensors", "--steps", "1")) == 0


def test_the_world_gives_pictures_to_train_on(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fish"
    assert main(["world", "pictures", "--concept", "0", "--kind", "varied", "--out", str(folder)]) == 0
    assert len(list(folder.iterdir())) == 5 and "--noun fish" in capsys.readouterr().out
    assert main(["world", "pictures", "--concept", "20", "--out", str(folder)]) == 2
    assert "0..19" in sentence(capsys)


def test_the_demo_writes_its_sheet_and_numbers(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "TINY_SAMPLE", replace(TINY_SAMPLE, num_steps=2))
    monkeypatch.setattr(demo, "SEEDS", (0, 1))
    out = tmp_path / "demo.png"
    assert main(["demo", "--weights", str(weights), "--steps", "1", "--out", str(out)]) == 0
    numbers = json.loads((tmp_path / "demo.json").read_text())
    assert set(numbers) == {"plain", "dci", "n", "seconds", "intervals"} and numbers["n"] == 16
    for way in ("plain", "dci"):
        assert set(numbers[way]) == {"prompt_following", "likeness"}
        assert all(0 <= value <= 1 for value in numbers[way].values())
    with Image.open(out) as sheet:
        assert sheet.width > 1000
    assert "95%" in capsys.readouterr().out
