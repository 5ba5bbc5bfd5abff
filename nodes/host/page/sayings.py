"""What each node said last, sent to every page that is open and kept for those that are opened later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import events

MOST_NODES = 128  # whose words are kept while the server runs
KEY = "ico_dci"


SAID: dict[str, dict[str, Any]] = {}  # by mark, the latest last


def keep(place: Mapping[str, str], told: Mapping[str, Any]) -> None:
    """Keeps a node's `ui`; of a node without a mark nothing, since its number is another node's in another graph."""
    mark = place["mark"]
    if not mark:
        return
    SAID.pop(mark, None)
    SAID[mark] = {**place, "output": {KEY: told[KEY]}}
    while len(SAID) > MOST_NODES:
        SAID.pop(next(iter(SAID)))


def say(place: Mapping[str, str], told: Mapping[str, Any]) -> None:
    """Sends a node's `ui` while, or after, the node runs."""
    keep(place, told)
    events.tell("said", **place, output=told)


def teller(told_by: Callable[[Any], dict[str, Any]]) -> Callable[[Any], None]:
    """What sends a node's `ui` of something that happened after the node ran, to the node that runs now."""
    place = events.place_in_work()

    def send(what: Any) -> None:
        say(place, told_by(what))

    return send
