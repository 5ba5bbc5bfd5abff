"""The tiny flow model as one that concepts are learned on: the core's `Model`, with concepts in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ...attention.call import AttentionCall, AttentionRule
from ...attention.layers import LayerId
from ...concept.deltas import Delta, LayerDelta, changed
from ...devices import moved
from ...errors import BadModel
from ...families.unet import find_family
from ...families.weight_names import PARTS, read_ldm, weight_key
from ...flux.blocks import DoubleBlock, SingleBlock
from ...model import Text
from ..model import TinyTokens
from .model import SLOTS, FlowModel

ENCODER = "clip_l"  # the only one, under the name that it has in the host


@dataclass(frozen=True)
class TinyFlowModel:
    """The flow model with concepts in place: trigger words in its vocabulary, changes beside its weights.

    changes  of keys and values of the text rows; single blocks share one weight between text and image rows, so no
             change of that weight could say it
    """

    flow: FlowModel
    learnt: Mapping[str, Tensor] = field(default_factory=dict)
    changes: Mapping[LayerId, LayerDelta] = field(default_factory=dict)

    @classmethod
    def random(cls, seed: int = 0) -> TinyFlowModel:
        """A model of the right shapes with random weights, for tests."""
        return cls(FlowModel.random(seed))

    @property
    def family(self) -> str:
        """Name of its row in the family table."""
        return self.flow.family

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """Every joint attention, in the order of the forward pass."""
        return find_family(self.family).layers

    @cached_property
    def encoders(self) -> dict[str, TinyTokens]:
        """The text encoder's vocabulary."""
        return {ENCODER: TinyTokens(self.flow.text, self.learnt, SLOTS)}

    def kv_weights(self) -> dict[str, Tensor]:
        """Weights that give the text rows their keys and values, by `weight_key`; concepts not applied."""
        found: dict[str, Tensor] = {}
        for block in (*self.flow.mmdit.double_blocks, *self.flow.mmdit.single_blocks):
            assert isinstance(block, DoubleBlock | SingleBlock)
            whole = block.txt_attn.qkv.weight if isinstance(block, DoubleBlock) else block.linear1.weight
            layer, width = LayerId(block.block.stream, block.block.index), whole.shape[1]
            found |= {weight_key(layer, part): whole[i * width : (i + 1) * width] for i, part in enumerate(PARTS, 1)}
        return found

    def kv_shapes(self) -> dict[LayerId, tuple[int, int]]:
        """Per joint attention (inner width, width of the rows that keys and values are projected from)."""
        weights = self.kv_weights()
        return {layer: tuple(weights[weight_key(layer, "k")].shape) for layer in self.layers}  # type: ignore[misc]

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        """Hidden states of framed token rows; pooled is the end mark's."""
        hidden = self.flow.text(embeds[ENCODER])
        return Text(hidden, torch.stack([row[end] for row, end in zip(hidden, ends[ENCODER].tolist(), strict=True)]))

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """x0 from x = (1 - sigma) x0 + sigma noise, [b c h w]."""
        if text.pooled is None:
            raise BadModel("the text has no pooled vector", "the tiny flow model needs one", "use its own encode")
        hidden, pooled = moved(text.hidden, x.device), moved(text.pooled, x.device)
        velocity = self.flow.mmdit(x, sigma.to(x.dtype), hidden, pooled, rule=self.with_changes(rule))
        return x - sigma.to(x.dtype)[:, None, None, None] * velocity

    def with_changes(self, rule: AttentionRule | None) -> AttentionRule | None:
        """The rule after the concepts' changes; None where there are neither."""
        changes, then = self.changes, rule or AttentionCall.plain
        if not changes:
            return rule
        return lambda call: then(changed(call, changes[call.layer]) if call.layer in changes else call)

    def with_deltas(self, weights: Mapping[str, Tensor]) -> TinyFlowModel:
        """A model with these changes too, by `weight_key`; the weights are shared. Raises BadModel."""
        own = self.kv_weights()
        if unknown := [key for key in weights if key not in own]:
            raise BadModel(f"weight {unknown[0]!r}", "the tiny flow model has no such weight", "use its own concepts")
        layers = dict.fromkeys(layer for key in weights if (layer := (read_ldm(key) or (None,))[0]) is not None)
        return replace(self, changes={**self.changes, **{layer: self._sum(layer, weights) for layer in layers}})

    def with_tokens(self, trigger: str, vectors: Mapping[str, Tensor]) -> TinyFlowModel:
        """A model that knows one more trigger word; vectors {"clip_l": [T c]}."""
        return replace(self, learnt={**self.learnt, trigger.lower(): vectors[ENCODER]})

    def _sum(self, layer: LayerId, weights: Mapping[str, Tensor]) -> LayerDelta:
        before, own = self.changes.get(layer), self.kv_weights()
        parts = []
        for part in PARTS:
            key = weight_key(layer, part)
            added = weights.get(key, torch.zeros_like(own[key])).to(own[key])
            parts.append(Delta(added if before is None else added + getattr(before, part).dense()))
        return LayerDelta(*parts)
