"""Sentences for the log, once for each time a node runs: a detailer or a tiled upscaler samples many times in it."""

from __future__ import annotations

from . import events


class Once:
    """What was said since the node in work began; outside of the host's queue each sentence is new."""

    def __init__(self) -> None:
        self._where = ("", "")
        self._said: set[str] = set()

    def is_new(self, sentence: str) -> bool:
        """Whether the node that runs now has not said this yet; from here on it has."""
        where = events.running()[0], events.node_in_work()
        if where != self._where or not all(where):
            self._where, self._said = where, set()
        is_new = sentence not in self._said
        self._said.add(sentence)
        return is_new
