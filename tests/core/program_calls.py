"""The program's words as a user writes them, and the one sentence it answers bad input with."""

from __future__ import annotations

from pathlib import Path

import pytest

QUICK = ["--steps", "2", "--batch", "1"]
SPARE = ["--steps", "2", "--count", "1"]


def train_words(weights: Path, images: Path, out: Path, *more: str) -> list[str]:
    base = ["train", "--weights", str(weights), "--images", str(images), "--noun", "fish", "--out", str(out)]
    return [*base, *QUICK, *more]


def sample_words(weights: Path, concept: Path, out: Path, *more: str, prompt: str = "a {concept} in snow") -> list[str]:
    base = ["sample", "--weights", str(weights), "--concept", str(concept), "--out", str(out), "--prompt", prompt]
    return [*base, *SPARE, *more]


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].endswith("."), lines
    return lines[0]
