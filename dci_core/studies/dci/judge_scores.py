"""The judge in a study: what it says about pictures, as the plain numbers that a cell keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...tiny.judge import Judge, Scale, Verdict, verdict
from ...tiny.model import load_part
from ...tiny.world.concepts import OBJECTS
from ..gates.trial import Ask, asks_for, scale_for

Numbers = dict[str, Any]
"""What a cell gives, as JSON keeps it."""


@dataclass
class JudgeScores:
    """The judge, on the CPU, and what it measures against; each read when it is first needed.

    weights  folder of the small world's weights
    """

    weights: Path
    scales: dict[int, Scale] = field(default_factory=dict, init=False)

    @cached_property
    def judge(self) -> Judge:
        """The judge, on the CPU."""
        judge = Judge()
        load_part("judge", judge, self.weights)
        return judge

    def scale(self, concept: int) -> Scale:
        """What likeness to the concept is measured against, whatever it was trained on."""
        if concept not in self.scales:
            self.scales[concept] = scale_for(self.judge, OBJECTS[concept])
        return self.scales[concept]


def judge_panel(judge_scores: JudgeScores, concept: int, prompts: Sequence[int], pictures: Tensor) -> Numbers:
    """Per picture [prompts][seeds]: likeness, following, has_all, has_noun; pictures [(prompts seeds) 3 128 128]."""
    asks, count, found = asks_for(OBJECTS[concept]), len(pictures) // len(prompts), []
    for i, number in enumerate(prompts):
        found.append(judge_pictures(judge_scores, concept, asks[number], pictures[i * count : (i + 1) * count]))
    return {name: [numbers[name] for numbers in found] for name in found[0]}


def judge_pictures(judge_scores: JudgeScores, concept: int, ask: Ask, pictures: Tensor) -> dict[str, list[float]]:
    """The judge's word on pictures of one prompt, a number a picture."""
    noun = OBJECTS[concept].thing.noun
    found = verdict(judge_scores.judge, pictures, judge_scores.scale(concept), {**ask.asked, "noun": noun})
    return numbers_of(found)


def numbers_of(found: Verdict) -> dict[str, list[float]]:
    """A verdict as plain numbers; has_all leaves the noun out, as likeness speaks of it."""
    right = torch.stack([value for question, value in found.asked.items() if question != "noun"])
    values = {
        "likeness": found.likeness,
        "following": found.prompt_following,
        "has_all": right.all(dim=0).float(),
        "has_noun": found.asked["noun"].float(),
    }
    return {name: plain_numbers(value) for name, value in values.items()}


def plain_numbers(values: Tensor) -> list[float]:
    """Values [b] as JSON keeps them."""
    return [round(x, 5) for x in values.tolist()]
