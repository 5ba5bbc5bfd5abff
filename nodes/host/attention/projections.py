"""Keys and values of the text before the norms, shown while a training changes them, and the way on from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....dci_core.attention.layers import LayerId
from ....dci_core.families.weight_names import BLOCK, CONTEXT, JOINT
from ..families.blocks import blocks_in
from .rotary import after_rotary

SEEN = "_ico_dci_seen"  # private attribute of a watched map: (its last input, its last output)


@dataclass(frozen=True, eq=False)
class Projected(ABC):
    """The text's side of a block's attention, one of whose maps is watched."""

    attention: Any

    @property
    @abstractmethod
    def watched(self) -> nn.Module:
        """The map."""

    @property
    def seen(self) -> tuple[Tensor, Tensor] | None:
        """(what the watched map was given, what it gave) in the block's last run; None before it."""
        found: tuple[Tensor, Tensor] | None = vars(self.watched)[SEEN]
        return found

    @property
    def rows(self) -> Tensor:
        """The rows [b t c] that keys and values are projected from."""
        assert self.seen is not None
        return self.seen[0]

    @abstractmethod
    def changing(self, k: Tensor, v: Tensor, where: slice, pe: Tensor | None) -> Callable[..., tuple[Tensor, Tensor]]:
        """What gives (k, v) [b n (heads d)] anew when the text's own are changed by so much before norms and rotary."""


@dataclass(frozen=True, eq=False)
class OwnMaps(Projected):
    """The cross-attention of a block whose map of keys is watched; the keys are normed after it, the values are not."""

    @property
    def watched(self) -> nn.Module:
        """The map of keys; it gives them before the norm, [b t (heads d)]."""
        found: nn.Module = self.attention.k_proj
        return found

    def changing(self, k: Tensor, v: Tensor, where: slice, pe: Tensor | None) -> Callable[..., tuple[Tensor, Tensor]]:
        """As the protocol says; `where` is all there is, and nothing is turned."""
        assert self.seen is not None
        raw, heads, norm = self.seen[1], self.attention.n_heads, self.attention.k_norm

        def project(more_k: Tensor, more_v: Tensor) -> tuple[Tensor, Tensor]:
            key = norm((raw + more_k.to(raw)).unflatten(-1, (heads, -1))).flatten(2)
            return key.to(k), v + more_v.to(v)

        return project


class JointMaps(Projected):
    """The text's side of a joint attention; the keys are normed and turned, the values are not."""

    @abstractmethod
    def normed(self) -> Callable[[Tensor], Tensor]:
        """What gives the text's keys [b heads t d] behind the norm, changed by so much [b t (heads d)] before it."""

    def changing(self, k: Tensor, v: Tensor, where: slice, pe: Tensor | None) -> Callable[..., tuple[Tensor, Tensor]]:
        """As the protocol says."""
        keys = self.normed()

        def project(more_k: Tensor, more_v: Tensor) -> tuple[Tensor, Tensor]:
            turned = after_rotary(keys(more_k), None if pe is None else pe_of(pe, where)).transpose(1, 2).flatten(2)
            pairs = ((k, turned), (v, v[:, where] + more_v.to(v)))
            new = [torch.cat((x[:, : where.start], own.to(x), x[:, where.stop :]), dim=1) for x, own in pairs]
            return new[0], new[1]

        return project


@dataclass(frozen=True, eq=False)
class FusedMap(JointMaps):
    """The text's side of a double block of Flux's layout, whose fused map is watched."""

    @property
    def watched(self) -> nn.Module:
        """The fused map, which gives [b t (three heads d)]."""
        found: nn.Module = self.attention.qkv
        return found

    def normed(self) -> Callable[[Tensor], Tensor]:
        """As the base class says."""
        assert self.seen is not None
        query, key, value = self.seen[1].chunk(3, dim=-1)

        def keys(more: Tensor) -> Tensor:
            parts = (x.unflatten(-1, (self.attention.num_heads, -1)) for x in (query, key + more.to(key), value))
            found: Tensor = self.attention.norm(*(x.transpose(1, 2) for x in parts))[1]
            return found

        return keys


@dataclass(frozen=True, eq=False)
class AddedMaps(JointMaps):
    """The text's side of a block of Qwen-Image, whose map of keys is watched."""

    @property
    def watched(self) -> nn.Module:
        """The map of keys, which gives [b t (heads d)]."""
        found: nn.Module = self.attention.add_k_proj
        return found

    def normed(self) -> Callable[[Tensor], Tensor]:
        """As the base class says."""
        assert self.seen is not None
        return normed_by(self.attention.norm_added_k, self.seen[1], self.attention.heads)


@dataclass(frozen=True, eq=False)
class ContextMap(FusedMap):
    """The text's side of a block of SD 3, whose fused map is watched; its keys are not turned."""

    def normed(self) -> Callable[[Tensor], Tensor]:
        """As the base class says."""
        assert self.seen is not None
        return normed_by(self.attention.ln_k, self.seen[1].chunk(3, dim=-1)[1], self.attention.num_heads)


def normed_by(norm: Callable[[Tensor], Tensor], raw: Tensor, heads: int) -> Callable[[Tensor], Tensor]:
    """What gives keys [b heads t d] behind a norm over each head, changed by so much [b t (heads d)] before it."""
    return lambda more: norm((raw + more.to(raw)).unflatten(-1, (heads, -1))).transpose(1, 2)


def pe_of(pe: Tensor, where: slice) -> Tensor:
    """The rotary embedding of some rows; pe [b 1 n d/2 2 2] or [b n 1 d/2 2 2]."""
    return pe[:, :, where] if pe.shape[1] == 1 else pe[:, where]


def projected_by(network: Any, layer: LayerId) -> Projected | None:
    """The text's side of a layer, where it is watched."""
    if layer.stage == BLOCK:
        cross = network.blocks[layer.block].cross_attn
        return OwnMaps(cross) if SEEN in vars(cross.k_proj) else None
    if layer.stage == JOINT:
        joint = network.transformer_blocks[layer.block].attn
        return AddedMaps(joint) if SEEN in vars(joint.add_k_proj) else None
    if layer.stage == CONTEXT:
        context = network.joint_blocks[layer.block].context_block.attn
        return ContextMap(context) if SEEN in vars(context.qkv) else None
    blocks = getattr(network, f"{layer.stage}_blocks", None)
    attention = None if blocks is None else getattr(blocks[layer.block], "txt_attn", None)
    return None if attention is None or SEEN not in vars(attention.qkv) else FusedMap(attention)


def maps_of(network: nn.Module) -> list[nn.Module]:
    """The maps of a network from which keys of the text come, where something follows that they cannot be added to."""
    modules = [module for _, module in blocks_in(network)]
    fused = [module.txt_attn.qkv for module in modules if hasattr(module, "txt_attn")]
    fused += [module.context_block.attn.qkv for module in modules if hasattr(module, "context_block")]
    joint = [module.attn.add_k_proj for module in modules if hasattr(getattr(module, "attn", None), "add_k_proj")]
    return [*fused, *joint, *(module.cross_attn.k_proj for module in modules if hasattr(module, "cross_attn"))]


@contextmanager
def projections_seen(network: nn.Module) -> Iterator[None]:
    """Inside, the maps of a network's text are watched; after it, nothing is left on them."""
    mine = [each for each in maps_of(network) if SEEN not in vars(each)]
    hooks = []
    try:
        for each in mine:
            vars(each)[SEEN] = None
            hooks.append(each.register_forward_hook(remember))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for each in mine:
            vars(each).pop(SEEN, None)


def remember(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
    """Leaves what a map was given and gave where the block's attention finds it."""
    vars(module)[SEEN] = (inputs[0], out)
