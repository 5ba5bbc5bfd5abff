"""The tiny flow model as one that concepts are learned on: the core's `Model`, with concepts in place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ...attention.call import AttentionRule
from ...attention.layers import LayerId
from ...devices import moved
from ...errors import BadModel
from ...families.table import find_family
from ...families.weight_names import PARTS, weight_key
from ...flux.blocks import DoubleBlock
from ...flux.transformer import MMDiT
from ...model import Text
from ..model import TinyTokens
from .model import SLOTS, FlowModel

ENCODER = "clip_l"  # the only one, under the name that it has in the host


@dataclass(frozen=True)
class TinyFlowModel:
    """The flow model with the triggers of concepts in its vocabulary."""

    flow: FlowModel
    learnt: Mapping[str, Tensor] = field(default_factory=dict)

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
        """The text's own key and value weights, by `weight_key`: views, one for each learned layer and part."""
        return text_weights(self.flow.mmdit)

    def kv_shapes(self) -> dict[LayerId, tuple[int, int]]:
        """Per learned layer (inner width, width of the rows that keys and values are projected from)."""
        weights, layers = self.kv_weights(), find_family(self.family).learned_layers
        shapes = {layer: weights[weight_key(layer, "k")].shape for layer in layers}
        return {layer: (shape[0], shape[1]) for layer, shape in shapes.items()}

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        """Hidden states of framed token rows; pooled is the end mark's."""
        hidden = self.flow.text(embeds[ENCODER])
        return Text(hidden, torch.stack([row[end] for row, end in zip(hidden, ends[ENCODER].tolist(), strict=True)]))

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """x0 from x = (1 - sigma) x0 + sigma noise, [b c h w]."""
        if text.pooled is None:
            raise BadModel("the text has no pooled vector", "the tiny flow model needs one", "use its own encode")
        hidden, pooled = moved(text.hidden, x.device), moved(text.pooled, x.device)
        velocity = self.flow.mmdit(x, sigma.to(x.dtype), hidden, pooled, rule=rule)
        return x - sigma.to(x.dtype)[:, None, None, None] * velocity

    def with_deltas(self, weights: Mapping[str, Tensor]) -> TinyFlowModel:
        """A model whose transformer has the changes added, by `weight_key`; the rest is shared. Raises BadModel."""
        mmdit = copy.deepcopy(self.flow.mmdit)
        own = text_weights(mmdit)
        if unknown := [key for key in weights if key not in own]:
            raise BadModel(f"weight {unknown[0]!r}", "the tiny flow model has no such weight", "use its own concepts")
        with torch.no_grad():
            for key, delta in weights.items():
                own[key].add_(delta.to(own[key]))
        return replace(self, flow=replace(self.flow, mmdit=mmdit))

    def with_tokens(self, trigger: str, vectors: Mapping[str, Tensor]) -> TinyFlowModel:
        """A model that knows one more trigger word; vectors {"clip_l": [T c]}."""
        return replace(self, learnt={**self.learnt, trigger.lower(): vectors[ENCODER]})


def text_weights(mmdit: MMDiT) -> dict[str, Tensor]:
    """Views of the thirds of each double block's fused text weight that give keys and values, by `weight_key`."""
    found: dict[str, Tensor] = {}
    for block in mmdit.double_blocks:
        assert isinstance(block, DoubleBlock)
        layer = LayerId(block.block.stream, block.block.index)
        _, *thirds = block.txt_attn.qkv.weight.chunk(3)
        found |= {weight_key(layer, part): third for part, third in zip(PARTS, thirds, strict=True)}
    return found
