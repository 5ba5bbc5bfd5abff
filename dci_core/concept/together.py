"""Several concepts in one prompt: each one's changes act on its own words, and its words are heard in its own region.

A model that several concepts were put on has all their weight changes everywhere: the first one's keys and values are
also read where the second one's name stands. Here what does not belong is taken away again, word by word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ..attention.call import AttentionCall
from ..attention.layers import LayerId
from ..attention.regions import region_on
from ..devices import sent
from .deltas import LayerDelta
from .learned import map_tensors

LEAST = 1e-4  # of a region: what is heard nowhere would leave nothing to look at


class PairRows(Protocol):
    """Rows of a call with either text of a pair."""

    @property
    def concept(self) -> tuple[int, ...]:
        """Those with the concept prompt."""

    @property
    def auxiliary(self) -> tuple[int, ...]:
        """Those with the auxiliary prompt."""


ChangeCall = Callable[[AttentionCall], AttentionCall]


@dataclass(frozen=True)
class Part:
    """One of several concepts in a prompt.

    slots      its words in the concept prompt
    stand_in   its noun's in the auxiliary prompt
    deltas     the changes of key and value weights that it has on the model, per layer
    strength   that they were put on with
    region     [h w] or [b h w] in 0..1, where in the picture its words are heard; None: everywhere
    sent       the changes on each device that asked for them
    """

    slots: tuple[int, ...]
    stand_in: tuple[int, ...]
    deltas: Mapping[LayerId, LayerDelta] = field(default_factory=dict, repr=False)
    strength: float = 1.0
    region: Tensor | None = field(default=None, compare=False, repr=False)
    sent: dict[tuple[LayerId, torch.device], LayerDelta] = field(default_factory=dict, compare=False, repr=False)

    def delta(self, layer: LayerId, device: torch.device) -> LayerDelta:
        """The layer's changes on a device, sent there once."""
        if (layer, device) not in self.sent:
            self.sent[layer, device] = map_tensors(self.deltas[layer], lambda x: sent(x, device))
        return self.sent[layer, device]


@dataclass(frozen=True)
class Together:
    """Several concepts of one prompt.

    length, other_length  slots of the concept's and the auxiliary text, where a host repeats them; None: all there are
    common  share of each concept's changes that stays on words that are nobody's; None: one part of as many as there
            are concepts, so that words see the mean of models that each were trained, never a sum that none was
    others  the same in rows of other texts: negative and auxiliary prompts
    apart   whether a concept's changes are taken off the other concepts' words
    whole   the concept whose changes stay whole on words that are nobody's, the others' go; None: as `common` says
    """

    parts: tuple[Part, ...]
    length: int | None = None
    other_length: int | None = None
    common: float | None = None
    others: float | None = None
    apart: bool = True
    whole: int | None = None

    def change(self, rows: PairRows, device: torch.device) -> ChangeCall:
        """What makes of a call with these rows one in which every concept keeps to its words and its region."""
        kept: dict[tuple[int, ...], Tensor] = {}

        def change(call: AttentionCall) -> AttentionCall:
            moved = self.without_strangers(call, rows.concept, device)
            bias = self.bias(moved, rows, device, kept)
            return moved if bias is None else replace(moved, bias=bias)

        return change

    def without_strangers(self, call: AttentionCall, concept: tuple[int, ...], device: torch.device) -> AttentionCall:
        """The call with each concept's changes taken off the words that are not its own."""
        num_rows, num_slots = call.context.shape[:2]
        offs = [(part, self.off(part, concept, num_rows, num_slots)) for part in self.parts]
        return without(call, offs, device)

    def off(self, part: Part, concept: tuple[int, ...], num_rows: int, num_slots: int) -> Tensor:
        """[rows t 1] on the CPU, the share of a concept's changes to be taken off each word."""
        length = self.length or num_slots
        mean = 1 / len(self.parts)
        common, others = (mean if share is None else share for share in (self.common, self.others))
        if self.whole is not None:
            common = float(part is self.parts[self.whole])
        here = torch.full((length,), 1 - common)
        for other in self.parts:
            here[list(other.slots)] = float(self.apart)
        here[list(part.slots)] = 0.0
        off = torch.full((num_rows, num_slots), 1 - others)
        if concept:
            off[list(concept)] = here.repeat(num_slots // length)
        return off[..., None]

    def sides(self, rows: PairRows, part: Part, num_slots: int) -> list[tuple[tuple[int, ...], list[int]]]:
        """(rows, slots there) of a concept's words and of its stand-in, repeats of a text counted."""
        found = []
        for which, slots, length in (
            (rows.concept, part.slots, self.length),
            (rows.auxiliary, part.stand_in, self.other_length),
        ):
            starts = range(0, num_slots, length or num_slots)
            found.append((which, [slot + start for start in starts for slot in slots]))
        return found

    def bias(
        self, call: AttentionCall, rows: PairRows, device: torch.device, kept: dict[tuple[int, ...], Tensor]
    ) -> Tensor | None:
        """[rows n t], for the regions; None where no concept has one."""
        if all(part.region is None for part in self.parts):
            return None
        num_rows, num_slots = call.text_keys.shape[0], call.text_keys.shape[2]
        key = (*call.grid, num_rows, num_slots)
        if key not in kept:
            bias = torch.zeros(num_rows, call.grid[0] * call.grid[1], num_slots)
            for part in self.parts:
                if part.region is None:
                    continue
                heard = region_on(part.region.cpu(), call.grid).clamp(min=LEAST).log()  # [b n]
                for which, slots in self.sides(rows, part, num_slots):
                    for place, row in enumerate(which):
                        bias[row, :, slots] = heard[place % len(heard), :, None]
            kept[key] = sent(bias, device)
        return kept[key]

    def by_place(self) -> tuple[Together, ...]:
        """Where each has a region, one for each concept: words that are nobody's are those of its own model there."""
        if not self.apart or len(self.parts) == 1 or any(part.region is None for part in self.parts):
            return ()
        return tuple(replace(self, whole=index) for index in range(len(self.parts)))

    def shares(self, grid: tuple[int, int], device: torch.device) -> list[Tensor]:
        """How far each place is each concept's, [b-or-1 n]; they add up to 1, and share evenly what is nobody's."""
        covers = [region_on(part.region.cpu(), grid).clamp(min=LEAST) for part in self.parts if part.region is not None]
        total = sum(covers[1:], covers[0])
        return [sent(cover / total, device) for cover in covers]


def without(call: AttentionCall, offs: Iterable[tuple[Part, Tensor]], device: torch.device) -> AttentionCall:
    """The call with a share [rows t 1] of each part's changes taken off its keys and values."""
    more_k = more_v = None
    for part, off in offs:
        share = off * part.strength
        if call.layer not in part.deltas or not share.any():
            continue
        share = sent(share, device)
        k, v = (-share * change.of(call.context) for change in part.delta(call.layer, device))
        more_k, more_v = (k, v) if more_k is None or more_v is None else (more_k + k, more_v + v)
    return call if more_k is None or more_v is None else call.moved(more_k, more_v)
