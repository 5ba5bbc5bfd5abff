"""The concept file: whole or not at all, and one sentence for every file that is not one."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dci_core.concept.base_hash import hash_base
from dci_core.concept.deltas import Delta
from dci_core.concept.file import load_concept, save_concept
from dci_core.concept.learned import Concept, check_fit
from dci_core.errors import BadConcept, BadSettings, NotSaved
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training
from dci_core.ico.train import train_steps

from ..toy_model import KV, LAYERS, RARE, WIDTH, ToyModel, toy_data

MODEL = ToyModel.random()
SECRET = "verysecretcaption"


def trained(**changes: object) -> TrainState:
    data = replace(toy_data(), captions=(f"a {SECRET} {{concept}}", None, None))
    settings = IcoSettings(steps=3, learning_rate=1e-2, prefix="photo of", **changes)
    state = begin_training(MODEL, data, settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)
    list(train_steps(MODEL, data, state))
    return state


STATE = trained()
CONCEPT = make_concept(STATE, trigger="sks", rank=4, base_hash="abc")


def saved(path: Path, concept: Concept = CONCEPT) -> Path:
    save_concept(concept, path)
    return path


def rewritten(path: Path, change: dict[str, str]) -> Path:
    """A good file with other metadata."""
    data = saved(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"] | change
    path.write_bytes(safetensors.torch.save(safetensors.torch.load(data), metadata))
    return path


@pytest.mark.parametrize(("rank", "precision"), [(4, "fp16"), (None, "fp16"), (None, "fp32"), (16, "fp32")])
def test_a_concept_comes_back_as_it_was(tmp_path: Path, rank: int | None, precision: str) -> None:
    concept = make_concept(STATE, trigger="sks", rank=rank, precision=precision, size_conditioning={"width": 512})
    back = load_concept(saved(tmp_path / "c.safetensors", concept))
    assert (back.family, back.trigger, back.noun, back.phrase) == ("tiny", "sks", "fish", "sks fish")
    assert back.about == concept.about and back.num_tokens == 3
    assert torch.equal(back.tokens["clip_l"], STATE.learned.text.tokens["clip_l"])
    for key, change in concept.weights().items():
        assert torch.equal(back.weights()[key], change) and change.any()


def test_the_reported_error_is_the_distance_to_what_was_trained() -> None:
    whole = make_concept(STATE, trigger="sks", rank=None, precision="fp32")
    assert whole.about.error == 0 and whole.about.rank is None
    for rank in (2, 8):
        short = make_concept(STATE, trigger="sks", rank=rank)
        lost = sum(float(((short.weights()[k] - w) ** 2).sum()) for k, w in whole.weights().items())
        total = sum(float((w**2).sum()) for w in whole.weights().values())
        assert short.about.error == pytest.approx((lost / total) ** 0.5, rel=1e-4) and short.about.rank == rank
    assert short.about.error < 1e-3  # rank 8 is all there is; fp16 remains


def test_low_rank_training_is_kept_without_loss() -> None:
    state = trained(rank=3)
    concept = make_concept(state, trigger="sks", precision="fp32")
    assert (concept.about.rank, concept.about.error) == (3, 0)
    learned = state.learned.deltas.of_layer(LAYERS[0])
    assert torch.equal(concept.deltas[LAYERS[0]].k.dense(), learned.k.dense())


def test_contexts_captions_and_paths_stay_out_of_the_file(tmp_path: Path) -> None:
    data = saved(tmp_path / "c.safetensors").read_bytes()
    names = set(safetensors.torch.load(data))
    assert {n for n in names if n.startswith("tokens.")} == {"tokens.clip_l"}
    assert all(n.startswith("tokens.") or ".attn2.to_" in n for n in names)
    for text in (SECRET, "photo of", str(tmp_path), "prefix", "suffix", "template"):
        assert text.encode() not in data
    size = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["about"])
    assert about["settings"]["steps"] == 3 and about["base_hash"] == "abc" and about["loss"]["steps"] == 3
    assert about["layers"] == [["input", 1, 0], ["middle", 0, 0]] and about["prediction"] == "eps"


def test_another_model_is_refused_and_another_base_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    good = {"family": "tiny", "widths": MODEL.kv_shapes(), "token_widths": {"clip_l": WIDTH}}
    with caplog.at_level(logging.WARNING):
        check_fit(CONCEPT, **good, base_hash="abc")
        assert not caplog.records
        check_fit(CONCEPT, **good, base_hash="other")
    assert "another base" in caplog.text
    for change, words in (
        ({"family": "sdxl"}, "is for tiny; sdxl was expected"),
        ({"token_widths": {"clip_l": 768}}, "tokens are"),
        ({"widths": dict.fromkeys(LAYERS, (KV, 20))}, r"shape \(8, 16\); \(8, 20\)"),
        ({"widths": {LAYERS[0]: (KV, WIDTH)}}, "no such layer"),
    ):
        with pytest.raises(BadConcept, match=words):
            check_fit(CONCEPT, **{**good, **change})


def test_the_base_hash_tells_models_apart_and_not_precisions() -> None:
    own = MODEL.weights
    halves = {name: x.half() for name, x in own.items()}
    assert hash_base(own, LAYERS) == hash_base(halves, LAYERS) != hash_base(ToyModel.random(1).weights, LAYERS)


def test_load_checks_against_the_model_when_it_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.safetensors")
    assert load_concept(path, family="tiny", widths=MODEL.kv_shapes()).trigger == "sks"
    with pytest.raises(BadConcept, match="sd15 was expected"):
        load_concept(path, family="sd15")


def test_damaged_and_foreign_files_get_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(BadConcept, match='"c.safetensors" could not be read'):
        load_concept(path)
    whole = saved(path).read_bytes()
    for data, words in (
        (b"", "is empty"),
        (whole[:-5], "cut short"),
        (whole[:50], "cut short"),
        (b"\x89PNG" * 40, "no safetensors file"),
        (pickle.dumps({"a": 1}), "is a file of Python objects"),
        (safetensors.torch.save({"x": torch.ones(2)}), "safetensors file of another kind"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadConcept, match=words):
            load_concept(path)
    torch.save({"x": torch.ones(2)}, path)
    with pytest.raises(BadConcept, match="Python objects under another name"):
        load_concept(path)


def test_a_pickle_under_another_name_never_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "c.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadConcept, match="which could run code"):
        load_concept(path)
    assert not (tmp_path / "ran").exists()


def test_other_format_versions_are_refused_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(BadConcept, match="format 2; .* update this pack"):
        load_concept(rewritten(path, {"version": "2"}))
    with pytest.raises(BadConcept, match="format 0; .* train the concept again"):
        load_concept(rewritten(path, {"version": "0"}))
    assert load_concept(rewritten(path, {})).noun == "fish"


def test_metadata_that_disagrees_with_the_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    data = saved(path).read_bytes()
    about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["about"])
    fewer = {**about, "layers": about["layers"][:1]}
    more = {**about, "layers": [*about["layers"], ["output", 3, 0]]}
    for bad in ("no json", "[]", json.dumps(fewer), json.dumps(more), json.dumps({**about, "trigger": "two words"})):
        with pytest.raises(BadConcept, match="do not fit together"):
            load_concept(rewritten(path, {"about": bad}))


def test_nan_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    bad = replace(CONCEPT, tokens={"clip_l": torch.full((3, WIDTH), torch.nan)})
    path = saved(tmp_path / "c.safetensors")
    with pytest.raises(BadConcept, match="NaN"):
        save_concept(bad, path)
    assert load_concept(path).trigger == "sks"
    tensors = safetensors.torch.load(path.read_bytes())
    tensors["tokens.clip_l"][0, 0] = torch.inf
    path.write_bytes(safetensors.torch.save(tensors, {"format": "ico-dci concept", "version": "1"}))
    with pytest.raises(BadConcept, match="NaN or infinity in tokens.clip_l"):
        load_concept(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = saved(tmp_path / "c.safetensors")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    expected = NotSaved if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is NotSaved else None):
        save_concept(replace(CONCEPT, noun="cat"), path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    save_concept(replace(CONCEPT, noun="cat"), path)
    assert load_concept(path).noun == "cat"


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        path = re.escape(str(folder / "c.safetensors"))
        with pytest.raises(NotSaved, match=f'"{path}" could not be written'):
            save_concept(CONCEPT, folder / "c.safetensors")


@pytest.mark.parametrize("trigger", ["", "two words", "a<b", "{x}", "a,b", " x"])
def test_triggers_are_plain_words(trigger: str) -> None:
    with pytest.raises(BadSettings, match="one word"):
        make_concept(STATE, trigger=trigger)


def test_bad_ranks_and_precisions_are_refused() -> None:
    with pytest.raises(BadSettings, match="rank is 0"):
        make_concept(STATE, trigger="sks", rank=0)
    with pytest.raises(BadSettings, match="precision"):
        make_concept(STATE, trigger="sks", precision="fp8")


def test_a_training_without_steps_still_makes_a_file(tmp_path: Path) -> None:
    fresh = begin_training(MODEL, toy_data(), IcoSettings(), noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)
    concept = load_concept(saved(tmp_path / "c.safetensors", make_concept(fresh, trigger="sks")))
    assert not any(w.any() for w in concept.weights().values()) and concept.about.loss == {}
    assert isinstance(concept.deltas[LAYERS[0]].k, Delta)
