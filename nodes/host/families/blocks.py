"""The host's blocks in which an image attends to text: one registry, keyed by the block's class.

A new family of models is a row here, with its sizes in `dci_core/families`; where its hook is of a new kind, it gets an
installer in `nodes/host/attention` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from ....dci_core.attention.joint import BlockId
from ....dci_core.attention.layers import LayerId
from ....dci_core.families.weight_names import BLOCK, LAYER, in_order

Block = LayerId | BlockId


@dataclass(frozen=True)
class BlockKind:
    """One of the host's block classes.

    module  where the class is
    stream  "cross": a U-Net's cross-attention on the text (attention/cross.py installs a rule there); "block": a
            transformer's (attention/cross_block.py); "double", "single" or "joint": a joint attention of text and image
            (attention/joint_rule.py); "layer": one that the host has no replacement for (attention/single_stream.py)
    part    attribute that such a block must have, where some blocks of the class have no text attention
    within  where such blocks are in the network, if some of the class are elsewhere and have none
    """

    module: str
    name: str
    stream: str
    part: str | None = None
    within: str = ""

    @cached_property
    def own_class(self) -> type | tuple[()]:
        """The class itself; none where this host has not got it, or has something else there."""
        try:
            found = getattr(import_module(self.module), self.name, ())
        except ImportError:
            return ()
        return found if isinstance(found, type) else ()

    def holds(self, path: str, module: Any) -> bool:
        """Whether the module at this path inside its network is such a block."""
        is_there = isinstance(module, self.own_class) and path.startswith(self.within)
        return is_there and (self.part is None or getattr(module, self.part, None) is not None)

    def block(self, path: str) -> Block:
        """What the core calls the block at this path inside its network."""
        if self.stream == "cross":
            return layer_named(path)
        number = int(path.rpartition(".")[2])
        return (LayerId if self.stream in (BLOCK, LAYER) else BlockId)(self.stream, number)


KINDS = (
    BlockKind("comfy.ldm.modules.attention", "BasicTransformerBlock", "cross", "attn2"),
    BlockKind("comfy.ldm.cosmos.predict2", "Block", BLOCK, "cross_attn"),
    BlockKind("comfy.ldm.flux.layers", "DoubleStreamBlock", "double"),
    BlockKind("comfy.ldm.flux.layers", "SingleStreamBlock", "single"),
    BlockKind("comfy.ldm.chroma.layers", "DoubleStreamBlock", "double"),  # of older hosts; newer ones take Flux's
    BlockKind("comfy.ldm.chroma.layers", "SingleStreamBlock", "single"),
    BlockKind("comfy.ldm.modules.diffusionmodules.mmdit", "JointBlock", "double"),
    BlockKind("comfy.ldm.qwen_image.model", "QwenImageTransformerBlock", "double"),
    BlockKind("comfy.ldm.lumina.model", "JointTransformerBlock", LAYER, within="layers."),
    BlockKind("comfy.ldm.krea2.model", "SingleStreamBlock", LAYER),
)


def blocks_in(network: Any) -> Iterator[tuple[Block, Any]]:
    """(name in the core, module) of every block with text attention, as the network lists them."""
    for path, module in network.named_modules():
        kind = next((kind for kind in KINDS if kind.holds(path, module)), None)
        if kind is not None:
            yield kind.block(path), module


def cross_attention_blocks(network: Any) -> tuple[LayerId, ...]:
    """Every cross-attention of a network, in the order of the forward pass."""
    return tuple(in_order(block for block, _ in blocks_in(network) if isinstance(block, LayerId)))


def has_second_attention(network: Any) -> bool:
    """Whether blocks have an attention of the image alone besides the joint one, as SD 3.5 medium's have."""
    return bool(getattr(network, "x_block_self_attn_layers", None))


def joint_blocks(network: Any) -> dict[BlockId, Any]:
    """Every joint attention of a transformer and its module, as the network lists them."""
    return {block: module for block, module in blocks_in(network) if isinstance(block, BlockId)}


def layer_named(path: str) -> LayerId:
    """`input_blocks.4.1.transformer_blocks.0` -> input 4 0. The middle block's module is 1, its key is 0."""
    parts = path.split(".")
    stage = parts[0].removesuffix("_blocks").removesuffix("_block")
    return LayerId(stage, 0 if stage == "middle" else int(parts[1]), int(parts[-1]))
