"""One run of a model that reads references: keys and values, rules and found regions, all released at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ....dci_core.attention.joint import BlockId, JointRule
from ....dci_core.dynaip.auto_regions import NounMaps, place_subjects, watching_rule
from ....dci_core.dynaip.decoupled import SubjectKV, image_prompt_rule
from ....dci_core.dynaip.subject import Subject
from ..attention.joint import ATTENTION, STREAM, CallFrame, Site
from ..families.mmdit import image_first_blocks
from .readings import HeldReference, ReadingRecord

Where = tuple[torch.device, torch.dtype]


@dataclass(eq=False)
class PromptedRun:
    """What lasts for one run.

    kept     (number of the first reference with the same tokens, device and precision) -> its keys and values; at most
             as many as there are references and devices
    sites    what happens in each block while these references are read
    size     of the run's latent
    maps     where the model looks for nouns, if any reference has one
    sigma    noise level of the model call before
    reached  whether the attention of any block of this run came by
    """

    references: tuple[HeldReference, ...]
    record: ReadingRecord
    kept: dict[tuple[int, Where], SubjectKV] = field(default_factory=dict)
    sites: dict[tuple[tuple[int, ...], Where], dict[BlockId, Site]] = field(default_factory=dict)
    size: tuple[int, ...] | None = None
    maps: NounMaps | None = None
    sigma: float | None = None
    reached: bool = False

    def clear(self) -> None:
        """Releases everything."""
        self.kept.clear()
        self.sites.clear()
        self.size = self.maps = self.sigma = None
        self.reached = False

    def begin(self, noise: Tensor, where: Where) -> None:
        """Forgets the run before and computes keys and values for this one."""
        self.clear()
        self.record.clear()
        self.size = tuple(noise.shape[-2:])
        for number in range(len(self.references)):
            self.kv(number, where)

    def end(self) -> None:
        """Releases everything but what the record shows."""
        self.clear()
        self.record.settle()

    def kv(self, number: int, where: Where) -> SubjectKV:
        """Keys and values of one reference, computed on first use."""
        reference = self.references[number]
        first = next(i for i, other in enumerate(self.references) if is_same_reading(other, reference))
        if (first, where) not in self.kept:
            self.kept[first, where] = reference.adapter.keys_and_values(reference.tokens, *where)
        return self.kept[first, where]

    def was_reached(self, frame: CallFrame) -> bool:
        """Whether a block of this run, up to this model call, asked what it should read."""
        self.reached = self.reached or frame.is_reached
        return self.reached

    def step_to(self, sigma: float, text_rows: int) -> None:
        """Tells the run of a model call at this noise level; at a new one the maps of the one before are closed."""
        if not any(reference.noun for reference in self.references):
            return
        if self.maps is None:
            self.maps = NounMaps([each.noun and each.noun.among(text_rows) for each in self.references])
        elif self.sigma is not None and sigma != self.sigma:
            self.maps.end_step()
            self.sites.clear()
        self.sigma = sigma

    def read_at(self, sigma: float, sampling: Any) -> tuple[int, ...]:
        """Numbers of the references that are read at this noise level: from start on and before end."""
        return tuple(k for k, each in enumerate(self.references) if is_read_at(each.subject, sigma, sampling))

    def sites_of(self, numbers: tuple[int, ...], model: Any, where: Where) -> Mapping[BlockId, Site]:
        """What happens in each block while these references are read."""
        if (numbers, where) not in self.sites:
            rules = self.rules(numbers, where)
            flipped = image_first_blocks(model)
            self.sites[numbers, where] = {
                block: Site(tuple(rules[block]), block in flipped, self.maps is not None) for block in sorted(rules)
            }
        return self.sites[numbers, where]

    def rules(self, numbers: tuple[int, ...], where: Where) -> dict[BlockId, list[tuple[JointRule, str]]]:
        """Per block what looks for nouns, and one rule for all references whose adapters add at the same place."""
        placed = [reference.subject for reference in self.references]
        found: dict[BlockId, list[tuple[JointRule, str]]] = {}
        if self.maps is not None:
            placed = place_subjects(placed, self.maps)
            watch = watching_rule(self.maps)
            found = {b: [(watch, ATTENTION)] for each in self.references if each.noun for b in each.adapter.blocks}
        for place in (ATTENTION, STREAM):
            own = [k for k in numbers if self.references[k].adapter.place == place]
            if own:
                kvs, subjects = [self.kv(k, where) for k in own], [placed[k] for k in own]
                rule = image_prompt_rule(kvs, subjects, observe=self.record.observer(own))
                for block in {
                    block for kv, each in zip(kvs, subjects, strict=True) for block in kv if each.is_read(block)
                }:
                    found.setdefault(block, []).append((rule, place))
        return found


def is_same_reading(one: HeldReference, other: HeldReference) -> bool:
    """Whether two references have the same keys and values."""
    return one.adapter is other.adapter and (one.tokens is other.tokens or torch.equal(one.tokens, other.tokens))


def is_read_at(subject: Subject, sigma: float, sampling: Any) -> bool:
    """Whether a noise level lies in the subject's part of the schedule."""
    begins = sigma <= float(sampling.percent_to_sigma(subject.start))
    return begins and (subject.end >= 1 or sigma > float(sampling.percent_to_sigma(subject.end)))
