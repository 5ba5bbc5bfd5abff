"""A sweep of DCI: which windows and strengths are tried against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BadSettings

MOST = 12  # values in one direction; more cannot be read on one sheet
PLAIN = "plain"


@dataclass(frozen=True)
class Sweep:
    """Every window with every strength, and the plain run for comparison.

    windows    shares of the noise schedule, above 0 up to 1: the columns
    strengths  -10..10: the rows
    """

    windows: tuple[float, ...]
    strengths: tuple[float, ...]

    def cells(self) -> Iterator[tuple[float, float]]:
        """(window, strength) row by row."""
        return ((window, strength) for strength in self.strengths for window in self.windows)

    def labels(self) -> list[str]:
        """`plain`, then `window 0.3, strength 1` for each cell."""
        return [PLAIN, *(f"window {window:g}, strength {strength:g}" for window, strength in self.cells())]


def read_sweep(windows: str, strengths: str) -> Sweep:
    """The sweep that two lists such as "0.1, 0.3, 0.5" name; raises BadSettings."""
    columns = read_numbers(windows, "windows", 0.0, 1.0)
    if 0 in columns:
        raise BadSettings(
            f'the windows "{windows.strip()}" hold 0',
            "above 0 up to 1 is expected",
            "leave it out: plain is column one",
        )
    return Sweep(columns, read_numbers(strengths, "strengths", -10.0, 10.0))


def read_numbers(text: str, what: str, low: float, high: float) -> tuple[float, ...]:
    """Different numbers in low..high, separated by commas, in the order in which they were written."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    came = f'the {what} are "{text.strip()}"'
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise BadSettings(came, "numbers with commas between them are expected", "write them as 0.1, 0.3, 0.5")
    if wrong := [number for number in numbers if not low <= number <= high]:
        raise BadSettings(came, f"numbers in {low:g}..{high:g} are expected", f"change {wrong[0]:g}")
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise BadSettings(came, "each number once is expected", f"remove one {twice[0]:g}")
    if len(numbers) > MOST:
        raise BadSettings(f"{len(numbers)} {what} came", f"at most {MOST} are expected", "leave some out")
    return numbers
