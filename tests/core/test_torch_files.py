"""Files of torch.save give tensors or one sentence, and are refused by a torch that could be made to run them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dci_core import torch_files
from dci_core.errors import BadAdapter, BadConcept
from dci_core.torch_files import load_weights_only

ROOT = Path(__file__).parents[2]


class Trap:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_tensors_come_and_nothing_else(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.bin", tmp_path / "bad.bin"
    torch.save({"x": torch.ones(2)}, good)
    assert torch.equal(load_weights_only(good, "more", BadConcept)["x"], torch.ones(2))  # type: ignore[index]
    torch.save({"x": Trap(tmp_path / "ran")}, bad)
    with pytest.raises(BadAdapter, match=r'"bad\.bin" holds more than tensors, or is damaged; tensors; again'):
        load_weights_only(bad, "tensors", BadAdapter, "again")
    assert not (tmp_path / "ran").exists()
    for data in (b"", b"PK\x03\x04", b"\x80\x04.", good.read_bytes()[:200]):
        bad.write_bytes(data)
        with pytest.raises(BadConcept, match="or is damaged"):
            load_weights_only(bad, "tensors", BadConcept)
    with pytest.raises(BadConcept, match="could not be read"):
        load_weights_only(tmp_path / "none.bin", "tensors", BadConcept)


@pytest.mark.parametrize("version", ["2.4.1", "2.5.0+cu124", "1.13.1"])
def test_a_torch_before_the_mended_one_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "good.bin"
    torch.save({"x": torch.ones(2)}, path)
    monkeypatch.setattr(torch_files.torch, "__version__", version)
    with pytest.raises(BadConcept, match=rf"torch is {version.split('+')[0]}; torch 2\.6 or newer"):
        load_weights_only(path, "tensors", BadConcept)


@pytest.mark.parametrize("version", ["2.6.0", "2.11.0+cpu", "3.0.0a0+git1234", "2.10.0.dev20251001"])
def test_a_torch_from_then_on_reads(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "good.bin"
    torch.save({"x": torch.ones(2)}, path)
    monkeypatch.setattr(torch_files.torch, "__version__", version)
    assert load_weights_only(path, "tensors", BadConcept)


def test_nothing_in_the_pack_looks_like_running_what_a_file_holds() -> None:
    """What registries' scanners flag by its mere name."""
    words = ("pickle", "weights_only=False", "eval(", "exec(", "os.system", "__import__")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for folder in ("dci_core", "nodes")
        for path in (ROOT / folder).rglob("*.py")
        for word in words
        if any(
            word in line.replace(".eval(", "") and not line.lstrip().startswith("#")
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    ]
    assert found == []
