"""Needs told before training agree with what training then takes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dci_core.concept.file import save_concept
from dci_core.errors import NotSaved
from dci_core.ico.checkpoint import save_state
from dci_core.ico.estimate import SPARE_BYTES, check_room, needs_of, rounds_left, seconds_left
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import begin_training
from dci_core.ico.train import StepReport, train_steps

from ..toy_model import RARE, ToyModel, toy_data

MODEL = ToyModel.random()


@pytest.mark.parametrize(("trained", "saved"), [(None, 4), (None, None), (3, 3)])
def test_estimated_file_sizes_are_those_of_the_files(tmp_path: Path, trained: int | None, saved: int | None) -> None:
    settings = IcoSettings(steps=1, rank=trained)
    state = begin_training(MODEL, toy_data(), settings, noun="fish", widths=MODEL.kv_shapes(), rare_tokens=RARE)
    needs = needs_of(state, saved)
    list(train_steps(MODEL, toy_data(), state))
    save_state(state, tmp_path / "state")
    save_concept(make_concept(state, trigger="sks", rank=saved), tmp_path / "concept")
    for name, expected in (("state", needs.resume), ("concept", needs.concept)):
        header = 10_000  # names and metadata, not part of the estimate
        assert 0 <= (tmp_path / name).stat().st_size - (expected - SPARE_BYTES) < header
    numbers = sum(p.numel() for p in state.learned.parameters())
    assert needs.memory == numbers * 4 * 4


def test_a_disk_without_room_is_told_before_training(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(NotSaved, match=rf'"{re.escape(str(tmp_path))}" has \d+ MB free; \d+ MB were expected; make'):
        check_room(tmp_path, 1 << 62)
    with pytest.raises(NotSaved, match=rf'"{re.escape(str(tmp_path / "nowhere"))}" cannot be used'):
        check_room(tmp_path / "nowhere", 1)


def test_the_time_left_comes_from_the_steps_after_the_first() -> None:
    first = StepReport(1, 11, 0.1, None, 1e-5, seconds=9.0)
    assert seconds_left([first]) is None
    assert seconds_left([first, replace(first, step=2, seconds=2.0), replace(first, step=3, seconds=4.0)]) == 24.0


def test_rounds_of_samples_that_are_to_come_are_counted() -> None:
    for every, steps in ((0, 10), (3, 10), (5, 10), (1, 4), (20, 10)):
        due = [step for step in range(1, steps + 1) if every and (step % every == 0 or step == steps)]
        for step in range(1, steps + 1):
            assert rounds_left(every, step, steps) == sum(at >= step for at in due), (every, step, steps)
