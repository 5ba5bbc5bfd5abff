"""How many objects a lead needs to be decided, from the intervals of a finished study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from .report import LEADS
from .report_words import table

STRETCH = 1.96  # standard errors from the middle of a 95% interval to its end
WANTED = 0.9
NAMES = dict(zip(LEADS, ("hypervolume", "following at 95% likeness"), strict=True))


@dataclass(frozen=True)
class Lead:
    """How far DCI was ahead of a dial over so many objects, with the standard error of that."""

    dial: str
    number: str
    value: float
    error: float
    objects: int

    def error_at(self, objects: int) -> float:
        """Over so many objects; they are independent, and all else stays."""
        return self.error * float((self.objects / objects) ** 0.5)

    def power(self, objects: int) -> float:
        """How likely the interval over so many objects leaves zero out, if the lead is as large as it was."""
        if self.error == 0:  # an interval without width
            return float(self.value != 0)
        away = abs(self.value) / self.error_at(objects)
        return NormalDist().cdf(away - STRETCH) + NormalDist().cdf(-away - STRETCH)

    def needed(self, power: float = WANTED) -> int:
        """Objects for that power."""
        steps = (STRETCH + NormalDist().inv_cdf(power)) * self.error / max(abs(self.value), 1e-9)
        return round(self.objects * steps**2 + 0.5)

    def least(self, objects: int, power: float = WANTED) -> float:
        """The smallest lead that so many objects decide with that power."""
        return (STRETCH + NormalDist().inv_cdf(power)) * self.error_at(objects)


def leads_of(summary: Mapping[str, Any]) -> Iterator[Lead]:
    """Every lead of study B, on all prompts and on low-prior ones; of tried dials that over concept strength."""
    if "dials_compared" in summary:
        yield from leads_of_tried(summary)
        return
    objects = len(summary["concepts"])
    for words, part in (("", summary), ("low-prior: ", summary["low_prior"])):
        for dial, numbers in part["dci_minus"].items():
            for name, found in numbers.items():
                error = (found["high"] - found["low"]) / (2 * STRETCH)
                yield Lead(dial, words + NAMES[name], found["value"], error, objects)


def leads_of_tried(summary: Mapping[str, Any]) -> Iterator[Lead]:
    """How far every dial that was tried on development objects was above concept strength."""
    objects = summary["dial_asked"]["objects"]
    for dial, one in summary["dials_compared"].items():
        for name, found in one["minus concept strength"].items():
            error = (found["high"] - found["low"]) / (2 * STRETCH)
            yield Lead("strength", f"{dial}: {name}", found["value"], error, objects)


def power_table(summary: Mapping[str, Any], objects: int) -> str:
    """Markdown: each lead, its chance to be decided over so many objects, and how many it would take."""
    columns = ("DCI minus", "number", "lead", "standard error", f"power at {objects}", "objects for 90%", "least lead")
    lines = [
        (
            lead.dial.removesuffix("_dial").replace("_", " "),
            lead.number,
            f"{lead.value:+.3f}",
            f"{lead.error:.3f}",
            f"{lead.power(objects):.2f}",
            str(lead.needed()),
            f"{lead.least(objects):.3f}",
        )
        for lead in leads_of(summary)
    ]
    return table(columns, lines)
