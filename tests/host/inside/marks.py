"""Marks of the checks."""

from __future__ import annotations

from collections.abc import Callable


class Absent(Exception):
    """Something that this check needs is not on this machine; the test is skipped with this sentence."""


def slow(check: Callable[[], None]) -> Callable[[], None]:
    """A check that takes longer than ten seconds."""
    return check
