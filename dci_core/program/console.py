"""What the user sees: results on stdout, progress and sentences on stderr; with --json one object on stdout."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from ..errors import PackError

BAR = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"
QUIET_SECONDS = 10.0  # between two lines of a bar that goes into a file


class Bar(tqdm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A progress bar without tqdm's watching thread."""

    monitor_interval = 0


@dataclass(frozen=True)
class Console:
    """Where results and sentences go.

    is_json    results are for a machine: nothing but one JSON object on stdout
    is_silent  bars are not shown: another process shows them
    """

    is_json: bool = False
    is_silent: bool = False

    def result(self, facts: Mapping[str, Any], text: str) -> None:
        """The command's result, as text or as JSON."""
        sys.stdout.write((json.dumps(facts, indent=2) if self.is_json else text) + "\n")

    def say(self, sentence: str) -> None:
        """A sentence beside the result; bars stay whole."""
        tqdm.write(sentence, file=sys.stderr)

    def fail(self, error: PackError) -> None:
        """One sentence on stderr; its three facts on stdout where JSON was asked."""
        self.say(f"{error}.")
        if self.is_json:
            facts = {"kind": type(error).__name__, "came": error.came, "expected": error.expected, "do": error.do}
            sys.stdout.write(json.dumps({"error": facts}) + "\n")

    @contextmanager
    def bar(self, total: int, what: str, done: int = 0) -> Iterator[Bar]:
        """A bar with the time left, `done` of `total` already behind it."""
        pause = 0.2 if sys.stderr.isatty() else QUIET_SECONDS
        with Bar(
            total=total,
            initial=done,
            desc=what,
            file=sys.stderr,
            bar_format=BAR,
            mininterval=pause,
            dynamic_ncols=True,
            disable=self.is_silent,
        ) as bar:
            yield bar


class Sentences(logging.Handler):
    """Warnings of the core as sentences on stderr, between the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


@contextmanager
def sentences() -> Iterator[None]:
    """The core's warnings reach stderr while this lasts."""
    log, handler = logging.getLogger(__package__.rpartition(".")[0]), Sentences(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
