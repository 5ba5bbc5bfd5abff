"""The loss of one batch: the base's own flow matching, while every row that may reads its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...attention.joint import BlockId, JointRule
from ...model import Text
from ...noise.schedule import shifted
from ..adapter import Adapter
from ..decoupled import BlockKV, image_prompt_rule
from ..subject import Subject
from .base import FlowBase, read_by
from .drops import draw_chances
from .pairs import Pair, to_pixels
from .settings import AdapterSettings

TRAINED = Subject(scale=1.0, text_scale=1.0)  # Source: facts 1 and 3; both branches read throughout training
DECOUPLED = Subject(scale=1.0, text_scale=0.0)  # Source: fact 3, as at inference


@dataclass(frozen=True)
class Batch:
    """Noisy rows, their conditions and the velocity that the base should answer.

    x, target  [rows c h w]; t [rows]
    states     hidden states [rows tokens c] of each row's reference
    reads      [rows], on the CPU, 0 where the reference is dropped
    """

    x: Tensor
    t: Tensor
    target: Tensor
    text: Text
    states: Sequence[Tensor]
    reads: Tensor


@torch.no_grad()
def make_batch(
    base: FlowBase, pairs: Sequence[Pair], places: Sequence[int], settings: AdapterSettings, device: torch.device
) -> Batch:
    """The batch of those pairs; places are the rows' numbers, on which alone their chance depends."""
    clean = base.latents(to_pixels([pair.target for pair in pairs], device)).float()
    chances = [draw_chances(place, tuple(clean.shape[1:]), settings) for place in places]
    noise = torch.stack([chance.noise for chance in chances]).to(device)
    uniform = torch.tensor([chance.uniform for chance in chances], dtype=torch.float32, device=device)
    t = shifted(base.times(uniform), settings.noise_shift)
    at = t[:, None, None, None]
    references = [p.target if chance.reads_own else p.reference for p, chance in zip(pairs, chances, strict=True)]
    words = [pair.caption if chance.has_words else "" for pair, chance in zip(pairs, chances, strict=True)]
    return Batch(
        x=(1 - at) * clean + at * noise,
        t=t,
        target=noise - clean,
        text=base.encode(words),
        states=base.states(to_pixels(references, device)),
        reads=torch.tensor([float(chance.reads) for chance in chances]),
    )


class Lesson(nn.Module):
    """The adapter in its base. Only the adapter is a part of this module: the base is frozen and stays outside."""

    def __init__(self, adapter: Adapter, base: FlowBase) -> None:
        super().__init__()
        self.adapter = adapter
        self._velocity = (base.velocity,)  # in a tuple, so that no module of the base is taken for a part of this one

    def forward(self, batch: Batch, subject: Subject = TRAINED) -> tuple[Tensor, Tensor]:
        """(loss [], the levels' weights [levels], averaged over rows)."""
        fused = self.adapter.fuse(batch.states)
        rule = read_by(image_prompt_rule([keys_values(self.adapter, fused.tokens)], [subject]), batch.reads)
        predicted = self._velocity[0](batch.x, batch.t, batch.text, rule)
        loss = (predicted.float() - batch.target).square().mean()
        return loss + 0 * self._touch(), fused.weights.detach().float().mean(dim=0)

    def _touch(self) -> Tensor:
        """A number that needs every parameter: a batch in which no row reads must give zero gradients, not none."""
        return torch.stack([p.sum() for p in self.adapter.parameters()]).sum()


def keys_values(adapter: Adapter, tokens: Tensor) -> Mapping[BlockId, BlockKV]:
    """Keys and values of reference tokens [b m c] in every block that the adapter reads in, one set for each row."""
    return {block: adapter.kv(block, tokens) for block in adapter.params.block_ids}


def reading_rule(adapter: Adapter, states: Sequence[Tensor], subject: Subject) -> JointRule:
    """The rule of one reference for each batch row; states as `FlowBase.states` gives them."""
    return image_prompt_rule([keys_values(adapter, adapter.fuse(states).tokens)], [subject])
