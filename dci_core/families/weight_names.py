"""Names of the key and value weights of each text attention: in the LDM and the diffusers spelling, and of MM-DiTs.

Both layouts count the same blocks, so one name follows from the other by arithmetic: a level has `res_blocks`
residual blocks and one resampling step on the way down (after the stem, block 0), and `res_blocks + 1` residual
blocks on the way up. Holds for SD 1.x, SD 2.x and SDXL (res_blocks 2) and for the tiny world (res_blocks 1).

In an MM-DiT's double blocks keys and values of the text are thirds of one weight, `double_blocks.0.txt_attn.qkv`; the
single blocks have one weight for text and image rows, which no concept changes. In a transformer with cross-attention
they are weights of their own, `blocks.0.cross_attn.k_proj`, and so they are in the joint attentions of Qwen-Image,
`transformer_blocks.0.attn.add_k_proj`; in SD 3's they are thirds again, `joint_blocks.0.context_block.attn.qkv`.
The layers of Z-Image and Krea 2 serve text and image rows with one weight, but the text goes through two blocks of its
own before: `context_refiner.0.attention.qkv`, `txtfusion.refiner_blocks.0.attn.wk`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..attention.layers import LayerId

PARTS = ("k", "v")
BLOCK = "block"  # of a transformer whose blocks have a cross-attention on the text
REFINER = "refiner"  # of a transformer whose text goes through blocks of its own first
FUSION = "fusion"  # the same of Krea 2, whose text is first made of twelve layers of its encoder
ALONE_STAGES = (REFINER, FUSION)  # of blocks that the text goes through alone
LAYER = "layer"  # of the same transformers: their joint attentions
JOINT = "joint"  # of an MM-DiT whose text has keys and values of its own everywhere, apart from its queries
CONTEXT = "context"  # of SD 3's, whose text has a block of its own beside the image's
JOINT_STAGES = ("double", "single", JOINT, CONTEXT, LAYER)  # of joint attentions, in order of the forward pass
SHARED_STAGES = ("single", LAYER)  # those whose weights serve text and image rows alike
MODULES = {  # what a stage's modules are called: the attention's text side, and what makes its keys or values
    "double": ("double_blocks.{}.txt_attn", "to_{}"),
    "single": ("single_blocks.{}", "to_{}"),
    JOINT: ("transformer_blocks.{}.attn", "add_{}_proj"),
    CONTEXT: ("joint_blocks.{}.context_block.attn", "to_{}"),
    REFINER: ("context_refiner.{}.attention", "to_{}"),
    FUSION: ("txtfusion.refiner_blocks.{}.attn", "w{}"),
    LAYER: ("layers.{}.attention", "to_{}"),
    BLOCK: ("blocks.{}.cross_attn", "{}_proj"),
}
FUSED_STAGES = ("double", CONTEXT, REFINER)  # those whose keys and values are thirds of one weight
_LDM = re.compile(r"(input|output|middle)_blocks?\.(\d+)(?:\.1)?\.transformer_blocks\.(\d+)\.attn2\.to_([kv])(?:\.|$)")
_MODULES = {
    stage: re.compile(
        r"(?:^|\.)" + re.escape(f"{path}.{maps}").replace(r"\{\}", "{}").format(r"(\d+)", "([kv])") + r"(?:\.|$)"
    )
    for stage, (path, maps) in MODULES.items()
    if stage not in SHARED_STAGES
}
_DIFFUSERS = re.compile(
    r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn2\.(?:processor\.)?to_([kv])"
)


def block_path(layer: LayerId) -> str:
    """`input_blocks.1.1.transformer_blocks.0.attn2`, `double_blocks.0.txt_attn`, `blocks.0.cross_attn`: its module."""
    if layer.stage in MODULES:
        return MODULES[layer.stage][0].format(layer.block)
    block = "middle_block.1" if layer.stage == "middle" else f"{layer.stage}_blocks.{layer.block}.1"
    return f"{block}.transformer_blocks.{layer.index}.attn2"


def weight_key(layer: LayerId, part: str) -> str:
    """Key of the layer's key ("k") or value ("v") weight: a U-Net's state-dict key in LDM's spelling."""
    return f"{module_path(layer, part)}.weight"


def module_path(layer: LayerId, part: str) -> str:
    """`input_blocks.1.1.transformer_blocks.0.attn2.to_k`, `blocks.0.cross_attn.k_proj`: what makes keys or values."""
    return f"{block_path(layer)}.{MODULES.get(layer.stage, ('', 'to_{}'))[1].format(part)}"


def weight_place(layer: LayerId, part: str) -> tuple[str, int | None]:
    """(state-dict key of the weight that holds the layer's key or value weight, which third of it; None: all of it)."""
    if layer.stage in FUSED_STAGES:
        return f"{block_path(layer)}.qkv.weight", 1 + PARTS.index(part)
    return weight_key(layer, part), None


def read_ldm(key: str) -> tuple[LayerId, str] | None:
    """(layer, "k" or "v") named by a key of `weight_key`, whatever stands around it; None for any other key."""
    for stage, names in _MODULES.items():
        if named := names.search(key):
            return LayerId(stage, int(named[1])), named[2]
    found = _LDM.search(key)
    if found is None:
        return None
    stage, number, index, part = found.groups()
    return LayerId(stage, 0 if stage == "middle" else int(number), int(index)), part


def diffusers_path(layer: LayerId, res_blocks: int = 2) -> str:
    """`down_blocks.0.attentions.0.transformer_blocks.0.attn2`: the layer's module inside a diffusers U-Net."""
    if layer.stage == "middle":
        block = "mid_block.attentions.0"
    elif layer.stage == "input":
        level, place = divmod(layer.block - 1, res_blocks + 1)
        block = f"down_blocks.{level}.attentions.{place}"
    else:
        level, place = divmod(layer.block, res_blocks + 1)
        block = f"up_blocks.{level}.attentions.{place}"
    return f"{block}.transformer_blocks.{layer.index}.attn2"


def read_diffusers(key: str, res_blocks: int = 2) -> tuple[LayerId, str] | None:
    """(layer, "k" or "v") named by a diffusers key; None for any other key."""
    found = _DIFFUSERS.search(key)
    if found is None:
        return None
    side, level, middle, place, index, part = found.groups()
    if middle:
        return LayerId("middle", 0, int(index)), part
    block = int(level) * (res_blocks + 1) + int(place)
    return (LayerId("input", block + 1, int(index)) if side == "down" else LayerId("output", block, int(index))), part


def in_order(layers: Iterable[LayerId]) -> list[LayerId]:
    """Layers in the order of the forward pass."""
    stages = ("input", "middle", "output", *ALONE_STAGES, *JOINT_STAGES, BLOCK)
    return sorted(layers, key=lambda layer: (stages.index(layer.stage), layer.block, layer.index))
