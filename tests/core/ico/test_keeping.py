"""An unfinished training is kept by the clock, and a copy that fails stops nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dci_core.errors import NotSaved
from dci_core.ico.keeping import Keeper


class Clock:
    """Seconds that only a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(keeper: Keeper, clock: Clock, steps: int, seconds: float) -> None:
    """Steps of so many seconds each."""
    for _ in range(steps):
        clock.now += seconds
        keeper.after_step()


@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.0, 25.0, 59.0, 200.0])
def test_no_more_than_a_minute_or_one_step_is_ever_at_risk(tmp_path: Path, seconds: float) -> None:
    clock, kept = Clock(), [0.0]
    keeper = Keeper(tmp_path / "x", lambda path: kept.append(clock.now), clock=clock)
    run(keeper, clock, int(600 / seconds) + 3, seconds)
    kept.append(clock.now)
    gaps = [later - earlier for earlier, later in zip(kept, kept[1:], strict=False)]
    assert max(gaps) <= max(60.0, seconds) + 1e-6
    assert len(kept) - 2 <= clock.now / max(20.0, seconds) + 1  # and the disk is not kept busy


def test_a_copy_that_fails_is_told_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, is_full, written = Clock(), [True], []

    def save(path: Path) -> None:
        if is_full[0]:
            raise NotSaved("the disk is full", "room was expected", "make room")
        written.append(path)

    keeper = Keeper(tmp_path / "x", save, clock=clock)
    with caplog.at_level(logging.INFO):
        run(keeper, clock, 30, 10.0)
        assert [record.levelname for record in caplog.records] == ["WARNING"] and not written
        assert keeper.trouble is not None and "disk is full" in keeper.trouble
        is_full[0] = False
        run(keeper, clock, 10, 10.0)
    assert written and keeper.trouble is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
