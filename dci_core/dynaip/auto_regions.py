"""Automatic regions: where the base model itself looks for each subject's noun, as masks for the subjects.

Shapes: b batch rows that read, heads, n image rows, t text rows, d head width.
Source: dynaip.md section 5 (candidate 2; MS-Diffusion's threshold 0.5 from step 5), reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..attention.joint import JointCall, JointRule
from ..attention.spans import attention_probabilities
from ..errors import BadSettings
from ..indices import picker
from .subject import Subject

SMALLEST = 1e-12  # no map is divided by less


@dataclass(frozen=True)
class RegionSettings:
    """How maps become regions.

    threshold  a token belongs to the region from this share of the map's maximum on
    from_step  steps that are only watched before a region is used
    memory     how much of the map of earlier steps remains at each step, 0..1
    """

    threshold: float = 0.5
    from_step: int = 5
    memory: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.from_step < 1 or not 0 <= self.memory < 1:
            raise BadSettings(
                f"automatic regions came with {self}",
                "a threshold above 0 and up to 1, 1 or more steps and a memory in 0..1 were expected",
                "use the defaults",
            )


def noun_map(q: Tensor, k: Tensor, tokens: Sequence[int]) -> Tensor:
    """Share of each image row's attention to the prompt that falls on some of its tokens, mean of the heads: [b n].

    q       [b heads n d], queries of the image rows
    k       [b heads t d], keys of the text rows
    tokens  places of the noun among the text rows
    """
    place = picker(tuple(tokens), k.device)
    maps = []
    for head in range(q.shape[1]):  # one at a time: all heads at once would be gigabytes at full size
        odds = attention_probabilities(q[:, head : head + 1], k[:, head : head + 1])[:, 0]  # [b n t]
        maps.append(place(odds, -1).sum(dim=-1))
    return torch.stack(maps).mean(dim=0)


def region_from_map(noun: Tensor, threshold: float) -> Tensor:
    """A map [b h w] smoothed over neighbouring tokens, then 1 where it reaches threshold * its maximum, else 0."""
    smooth = avg_pool2d(noun[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    return (smooth >= threshold * smooth.amax(dim=(1, 2), keepdim=True)).to(noun)


@dataclass
class NounMaps:
    """Collects, over blocks and steps, where the model looks for each subject's noun.

    nouns  per subject the places of its noun among the text rows, or None for a subject that has no noun
    """

    nouns: Sequence[Sequence[int] | None]
    settings: RegionSettings = RegionSettings()
    steps: int = field(default=0, init=False)
    maps: list[Tensor | None] = field(init=False)
    seen: list[list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.maps = [None for _ in self.nouns]
        self.seen = [[] for _ in self.nouns]

    def add(self, call: JointCall) -> None:
        """Takes in one block of the current step; a call without text keys, or that nobody reads in, adds nothing."""
        batch = tuple(row for row, reads in enumerate(call.reads.tolist()) if reads)
        if call.text_keys is None or not batch:
            return
        rows = picker(batch, call.q.device)
        q, k = rows(call.image_queries, 0).detach(), rows(call.text_keys, 0).detach()
        for seen, noun in zip(self.seen, self.nouns, strict=True):
            if noun is not None:
                found = noun_map(q, k, noun)
                found = found / found.amax(dim=-1, keepdim=True).clamp(min=SMALLEST)  # every block has the same say
                seen.append(rearrange(found, "b (h w) -> b h w", h=call.grid[0]))

    def end_step(self) -> None:
        """Closes a step: its blocks are averaged and blended into what earlier steps left."""
        for k, seen in enumerate(self.seen):
            if not seen:
                continue
            now, before = torch.stack(seen).mean(dim=0), self.maps[k]
            is_first = before is None or before.shape != now.shape
            self.maps[k] = now if before is None or is_first else torch.lerp(now, before, self.settings.memory)
            seen.clear()
        self.steps += 1

    @property
    def regions(self) -> list[Tensor | None]:
        """Per subject its region [b h w]; None before enough steps were watched, and without a noun."""
        if self.steps < self.settings.from_step:
            return [None for _ in self.maps]
        return [None if found is None else region_from_map(found, self.settings.threshold) for found in self.maps]


def place_subjects(subjects: Sequence[Subject], maps: NounMaps) -> list[Subject]:
    """The subjects with their automatic regions; one that waits for its region is not read yet.

    A drawn region stands: its subject's noun is not looked for.
    """
    placed = []
    for subject, noun, region in zip(subjects, maps.nouns, maps.regions, strict=True):
        if subject.region is not None or noun is None:
            placed.append(subject)
        elif region is None:
            placed.append(replace(subject, scale=0.0, text_scale=0.0))
        else:
            placed.append(replace(subject, region=region))
    return placed


def watching_rule(maps: NounMaps, rule: JointRule | None = None) -> JointRule:
    """The rule, or none, with every call shown to the collector first."""

    def watch(call: JointCall) -> Tensor | None:
        maps.add(call)
        return None if rule is None else rule(call)

    return watch
