"""One number of a gate, and how such a number is worked out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """One number of one gate; passed is None where there is no threshold."""

    gate: str
    what: str
    value: float
    asked: str
    passed: bool | None

    def row(self) -> dict[str, object]:
        """As plain data."""
        return asdict(self)


def reading(gate: str, what: str, value: float, least: float | None = None) -> Reading:
    """A number with its least allowed value, if it has one."""
    asked = "reported" if least is None else f">= {least:g}"
    return Reading(gate, what, float(value), asked, None if least is None else value >= least)


def auc(positive: Tensor, negative: Tensor) -> float:
    """Chance that a positive scores above a negative (area under ROC)."""
    scores = torch.cat((positive, negative))
    ranks = scores.argsort().argsort().double() + 1
    num = len(positive)
    return float((ranks[:num].sum() - num * (num + 1) / 2) / (num * len(negative)))
