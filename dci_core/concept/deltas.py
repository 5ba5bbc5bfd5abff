"""Learned changes of the key and value weights that read text, applied from outside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..attention.call import AttentionCall, AttentionRule
from ..attention.layers import LayerId
from ..errors import BadModel
from ..families.weight_names import PARTS, SHARED_STAGES

Widths = Mapping[LayerId, tuple[int, int]]
"""Per cross-attention: (width of keys and values, width of the text)."""


class Delta(NamedTuple):
    """A change of one weight: up @ down, or `up` alone when it is not factored.

    up    [inner rank], or [inner context] at full rank
    down  [rank context], or None
    """

    up: Tensor
    down: Tensor | None = None

    def dense(self) -> Tensor:
        """The whole change, [inner context], fp32."""
        return self.up.float() if self.down is None else self.up.float() @ self.down.float()

    def of(self, context: Tensor) -> Tensor:
        """context @ delta^T in fp32: [rows t context] -> [rows t inner]."""
        x = context.float()
        return x @ self.up.float().T if self.down is None else x @ self.down.float().T @ self.up.float().T

    @property
    def shape(self) -> tuple[int, int]:
        """(inner, context)."""
        return self.up.shape[0], (self.up if self.down is None else self.down).shape[1]


class LayerDelta(NamedTuple):
    """Changes of one layer's key and value weights."""

    k: Delta
    v: Delta


class KVDeltas(nn.Module):
    """Trainable changes of all key and value weights, fp32 whatever the model's precision; they start at zero.

    rank  number of factors, or None for full rank
    """

    def __init__(self, widths: Widths, rank: int | None, generator: torch.Generator, device: torch.device) -> None:
        super().__init__()
        self.layers = tuple(widths)
        self.parts = nn.ParameterDict()
        for layer, (inner, context) in widths.items():
            for part in PARTS:
                name = _name(layer, part)
                shape = (inner, context if rank is None else rank)
                self.parts[f"{name}_up"] = nn.Parameter(torch.zeros(shape, device=device))
                if rank is not None:
                    down = torch.randn(rank, context, generator=generator) * context**-0.5
                    self.parts[f"{name}_down"] = nn.Parameter(down.to(device))

    @property
    def device(self) -> torch.device:
        """Where the changes are: with the model that denoises."""
        return next(iter(self.parts.values())).device

    def of_layer(self, layer: LayerId) -> LayerDelta:
        """The layer's two changes, as parameters; raises BadModel for a layer that is not trained."""
        if layer not in self.layers:
            raise BadModel(
                f"the model called the cross-attention {tuple(layer)}",
                "a layer of the width table was expected",
                "pass the widths of every cross-attention of this model",
            )
        return LayerDelta(*(self._part(_name(layer, part)) for part in PARTS))

    def rule(self, then: AttentionRule = AttentionCall.plain, holds_first: bool = True) -> AttentionRule:
        """The changes as a rule; `then` may follow.

        holds_first  whether a text begins with a mark, whose keys and values are cut from the gradient

        Layers whose weights serve the image too are left as they are.
        """

        def rule(call: AttentionCall) -> Tensor:
            is_shared = call.layer.stage in SHARED_STAGES
            return then(call if is_shared else changed(call, self.of_layer(call.layer), holds_first))

        return rule

    def _part(self, name: str) -> Delta:
        return Delta(self.parts[f"{name}_up"], self.parts.get(f"{name}_down"))


def changed(call: AttentionCall, delta: LayerDelta, hold_first: bool = False) -> AttentionCall:
    """The call with the text's keys and values as the changed weights would project them.

    hold_first  keep the values of the begin mark but cut their gradient (training only; the released code does so)
    """
    new = call.moved(delta.k.of(call.context), delta.v.of(call.context))
    first = new.text.start or 0
    return new.with_text(_hold(new.k, first), _hold(new.v, first)) if hold_first else new


def _hold(x: Tensor, slot: int) -> Tensor:
    return torch.cat([x[:, :slot], x[:, slot : slot + 1].detach(), x[:, slot + 1 :]], dim=1)  # [rows m (heads d)]


def _name(layer: LayerId, part: str) -> str:
    return f"{layer.stage}_{layer.block}_{layer.index}_{part}"
