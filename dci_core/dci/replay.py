"""The auxiliary branch's work, kept by what went into it: a sweep over strengths or seeds pays for it once.

A call of the auxiliary rows alone is a function of its inputs, so it is kept under a hash of them, with no guess about
seeds or samplers. The concept's rows then run in calls of their own, the first time as at every later one: that is why
a replayed picture is the same bit for bit.
"""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..indices import indices_on
from .maps import AuxiliaryView, BranchRows
from .row_plan import RowPlan

MOST_BYTES = 1 << 30  # some 40 open steps of SD 1.5 at 512 px in fp16


@dataclass(frozen=True)
class AuxiliaryCall:
    """What one model call gave for the auxiliary rows: x0 [rows c h w], and what DBIM reads of each layer."""

    x0: Tensor
    views: Mapping[LayerId, AuxiliaryView]

    @property
    def num_bytes(self) -> int:
        """Memory that it holds."""
        tensors = [self.x0, *(part for view in self.views.values() for part in (view.out, view.noun))]
        return sum(x.numel() * x.element_size() for x in tensors)

    def to(self, device: torch.device) -> AuxiliaryCall:
        """The same on a device."""
        views = {layer: AuxiliaryView(v.out.to(device), v.noun.to(device)) for layer, v in self.views.items()}
        return AuxiliaryCall(self.x0.to(device), views)


class Replay:
    """Calls of auxiliary rows in main memory, at most so many bytes; those not used for longest go first.

    most_bytes  0 keeps nothing
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.num_bytes, self.hits = most_bytes, 0, 0
        self._calls: OrderedDict[str, AuxiliaryCall] = OrderedDict()
        self._owners: list[tuple[int, list[weakref.ref[Any]]]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, key: str, device: torch.device, compute: Callable[[], AuxiliaryCall]) -> AuxiliaryCall:
        """The kept call of that key on the device, or a new one, which is kept."""
        if key in self._calls:
            self._calls.move_to_end(key)
            self.hits += 1
            return self._calls[key].to(device)
        made = compute()
        self._keep(key, made.to(torch.device("cpu")))
        return made

    def owner(self, *objects: object) -> int:
        """A number for these very objects (a model, its patches) as long as they live; never given to others."""
        self._owners = [(n, refs) for n, refs in self._owners if all(ref() is not None for ref in refs)]
        for number, refs in self._owners:
            if len(refs) == len(objects) and all(ref() is x for ref, x in zip(refs, objects, strict=True)):
                return number
        number = next(_NUMBERS)
        self._owners.append((number, [weakref.ref(x) for x in objects]))
        return number

    def clear(self) -> None:
        """Forgets everything."""
        self._calls.clear()
        self.num_bytes = self.hits = 0

    def _keep(self, key: str, call: AuxiliaryCall) -> None:
        if call.num_bytes > self.most_bytes:
            return
        self._calls[key] = call
        self.num_bytes += call.num_bytes
        while self.num_bytes > self.most_bytes:
            _, oldest = self._calls.popitem(last=False)
            self.num_bytes -= oldest.num_bytes


_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Halves:
    """A row plan as two calls: the auxiliary rows, and the concept's beside what those left.

    auxiliary, concept  rows of the whole batch
    kept                places within the auxiliary call that DBIM reads
    branches            places within the concept call, and for each its place among `kept`
    """

    auxiliary: tuple[int, ...]
    concept: tuple[int, ...]
    kept: tuple[int, ...]
    branches: BranchRows

    def merge(self, plan: RowPlan, x: Tensor, concept: Tensor, auxiliary: Tensor) -> Tensor:
        """x0 of the whole batch from both calls."""
        ran = concept.new_empty(len(plan.runs), *concept.shape[1:])
        for rows, x0 in ((self.concept, concept), (self.auxiliary, auxiliary)):
            ran.index_copy_(0, indices_on(tuple(map(plan.runs.index, rows)), x.device), x0)
        return plan.fill(x, ran)


def halves(plan: RowPlan) -> Halves:
    """The plan in two; the branch is the last axis of its rows, so concept rows are the even ones."""
    concept, auxiliary = (tuple(row for row in plan.runs if row % 2 == branch) for branch in (0, 1))
    read = tuple(dict.fromkeys(plan.branches.auxiliary))
    return Halves(
        auxiliary,
        concept,
        _places(auxiliary, [plan.runs[place] for place in read]),
        BranchRows(
            _places(concept, [plan.runs[place] for place in plan.branches.concept]),
            tuple(map(read.index, plan.branches.auxiliary)),
        ),
    )


def _places(rows: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(rows.index, wanted))
