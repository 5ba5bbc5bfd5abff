"""A training as the page follows it: step, loss, time left, the last previews; kept while the server runs."""

from __future__ import annotations

import base64
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ....dci_core.errors import PackError
from ....dci_core.ico.train import StepReport
from ....dci_core.pictures.thumbnails import small_jpeg
from . import events, sayings

log = logging.getLogger(__name__)
MOST_TRAININGS = 16  # kept for pages that are opened later
MOST_PREVIEWS = 6
PREVIEW_PX = 128
TELL_SECONDS = 0.5  # between two messages; previews and the last step are always told
TIMED_STEPS = 20  # of which the time left is guessed
MOST_POINTS = 400
HEAD = ("node", "mark", "title", "state", "step", "steps", "left")  # facts that every message has


class LiveTraining:
    """One training of one node.

    notes  what the node should say of it when it has ended
    """

    def __init__(self, title: str) -> None:
        self.facts: dict[str, Any] = {
            **events.place_in_work(),
            "title": title,
            "state": "running",
            "step": 0,
            "steps": 0,
            "left": None,
            "points": [],
            "previews": [],
            "samples": None,
        }
        self.notes: list[str] = []
        self.seconds: deque[float] = deque(maxlen=TIMED_STEPS)
        self.new: list[list[float]] = []
        self.told = 0.0

    def begin(self, losses: list[float], steps: int) -> None:
        """A training that goes on shows the losses that it has; its page hears of it at once."""
        self.facts |= {"step": len(losses), "steps": steps}
        self.facts["points"] = [[i + 1, loss] for i, loss in enumerate(losses)][-MOST_POINTS:]
        events.tell("training", **self.facts)

    def step(self, report: StepReport, picture: Any = None, more: float = 0.0) -> None:
        """One more step, with the preview that the host's page got as (kind, picture, size).

        more  seconds that are to come beside the steps
        """
        self.seconds.append(report.seconds)
        left = sum(self.seconds) / len(self.seconds) * (report.steps - report.step) + more
        point = [report.step, report.loss]
        self.new.append(point)
        self.facts |= {"step": report.step, "steps": report.steps, "left": left}
        self.facts["points"] = thin([*self.facts["points"], point])
        if picture is not None:
            shown = {"step": report.step, "picture": as_data_url(picture[1])}
            self.facts["previews"] = [*self.facts["previews"], shown][-MOST_PREVIEWS:]
        now = time.monotonic()
        if picture is not None or report.step == report.steps or now - self.told >= TELL_SECONDS:
            self.told = now
            news = {name: self.facts[name] for name in HEAD}
            news |= {"new": self.new}
            events.tell("training", **news, **({"previews": self.facts["previews"]} if picture is not None else {}))
            self.new = []

    def sampled(self, step: int, prompts: Sequence[str], pictures: Sequence[Any]) -> None:
        """A round of samples, a picture for each prompt; the page shows the last round."""
        shown = [{"prompt": prompt, "picture": as_data_url(one)} for prompt, one in zip(prompts, pictures, strict=True)]
        self.facts["samples"] = {"step": step, "pictures": shown[:MOST_PREVIEWS]}
        events.tell("training", **{name: self.facts[name] for name in (*HEAD, "samples")})

    def warn(self, *sentences: str) -> None:
        """Shows on the node what there is to know of this training so far; nothing of earlier ones."""
        self.notes += sentences
        said = {"ico_dci": [{"lines": [], "warnings": self.notes}]}
        sayings.say({"node": self.facts["node"], "mark": self.facts["mark"]}, said)

    def end(self, state: str) -> None:
        """`done` or `stopped`."""
        self.facts |= {"state": state, "left": 0}
        events.tell("training", **self.facts)


CURRENT: ContextVar[LiveTraining | None] = ContextVar("ico_dci_training", default=None)
TRAININGS: dict[tuple[str, str], LiveTraining] = {}


def note(sentence: str) -> None:
    """Says it in the log and on the node, now and when its training has ended."""
    log.warning(sentence)
    live = CURRENT.get()
    if live is not None:
        live.warn(sentence)


@contextmanager
def live_training(title: str) -> Iterator[LiveTraining]:
    """A training that the page follows while the block runs; how it ended, and a refusal's sentence, are told too."""
    live = LiveTraining(title)
    live.warn()
    place = (live.facts["mark"], live.facts["node"])
    TRAININGS.pop(place, None)
    TRAININGS[place] = live
    while len(TRAININGS) > MOST_TRAININGS:
        TRAININGS.pop(next(iter(TRAININGS)))
    token = CURRENT.set(live)
    try:
        yield live
    except BaseException as error:
        if isinstance(error, PackError):
            live.warn(str(error))
        live.end("stopped")
        raise
    finally:
        CURRENT.reset(token)
    live.end("done")


def thin(points: list[list[float]]) -> list[list[float]]:
    """Every second point of the older half where there are too many."""
    if len(points) <= MOST_POINTS:
        return points
    half = len(points) // 2
    return points[:half:2] + points[half:]


def as_data_url(picture: Any) -> str:
    """A small JPEG that a message can carry."""
    return "data:image/jpeg;base64," + base64.b64encode(small_jpeg(picture, PREVIEW_PX)).decode()
