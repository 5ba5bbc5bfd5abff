"""An unfinished training is kept by the clock; where it cannot be kept it is said, and the training goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import NotSaved
from ..files import remove_spares

log = logging.getLogger(__name__)
KEEP_SECONDS = 60.0  # of work that may be lost


class Keeper:
    """Writes a training to its file so often that no more than a minute of work can be lost.

    path    the training's file
    save    writes it there, whole or not at all; raises NotSaved
    clock   seconds, only ever rising
    tell    says to the user that no copy can be written, once until one can
    """

    def __init__(
        self,
        path: Path,
        save: Callable[[Path], None],
        *,
        seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self.path, self.save, self.seconds, self.clock, self.tell = path, save, seconds, clock, tell
        self.kept_at = self.step_at = clock()
        self.longest = 0.0  # seconds between two steps of this run
        self.trouble: str | None = None  # why the last copy failed
        remove_spares(path)

    def after_step(self) -> None:
        """Keeps the training where another step would make more than the time of work that may be lost."""
        now = self.clock()
        self.longest = max(self.longest, now - self.step_at)
        self.step_at = now
        if now - self.kept_at + self.longest >= self.seconds:
            self.keep()

    def keep(self) -> bool:
        """Whether the training stands on disk as it is now; else an older copy may, and it is told."""
        try:
            self.save(self.path)
        except NotSaved as error:
            if self.trouble is None:
                self.tell(f"the training goes on without a new safety copy: {error}")
            self.trouble = str(error)
        else:
            if self.trouble is not None:
                log.info("the safety copy can be written again")
            self.trouble = None
        self.kept_at = self.step_at = self.clock()  # a copy that failed is tried again after as long
        return self.trouble is None
