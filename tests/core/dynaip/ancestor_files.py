"""State dicts with the exact key names of the public FLUX IP-Adapters and of SigLIP's pooling head, of any size."""

from __future__ import annotations

import torch
from torch import Tensor

from dci_core.families.mmdit import MmditFamily


def xlabs_state(family: MmditFamily, vision: int, tokens: int, token_width: int, seed: int = 0) -> dict[str, Tensor]:
    """XLabs: a flat safetensors file; 4 or 16 tokens of 4096 from CLIP's 768."""
    shapes: dict[str, tuple[int, ...]] = {
        "ip_adapter_proj_model.proj.weight": (tokens * token_width, vision),
        "ip_adapter_proj_model.proj.bias": (tokens * token_width,),
        "ip_adapter_proj_model.norm.weight": (token_width,),
        "ip_adapter_proj_model.norm.bias": (token_width,),
    }
    for i in range(family.blocks["double"]):
        for part in ("k", "v"):
            key = f"double_blocks.{i}.processor.ip_adapter_double_stream_{part}_proj"
            shapes |= {f"{key}.weight": (family.width, token_width), f"{key}.bias": (family.width,)}
    return _draw(shapes, seed)


def instantx_state(
    family: MmditFamily, vision: int, tokens: int, token_width: int, seed: int = 0
) -> dict[str, dict[str, Tensor]]:
    """InstantX: two nested dicts in a .bin; 128 tokens of 4096 from SigLIP's 1152."""
    project: dict[str, tuple[int, ...]] = {
        "proj.0.weight": (2 * vision, vision),
        "proj.0.bias": (2 * vision,),
        "proj.2.weight": (tokens * token_width, 2 * vision),
        "proj.2.bias": (tokens * token_width,),
        "norm.weight": (token_width,),
        "norm.bias": (token_width,),
    }
    blocks = {
        f"{i}.to_{part}_ip.weight": (family.width, token_width)
        for i in range(len(family.block_ids))
        for part in ("k", "v")
    }
    return {"image_proj": _draw(project, seed), "ip_adapter": _draw(blocks, seed + 1)}


def siglip_head(width: int, inner_width: int, seed: int = 0) -> dict[str, Tensor]:
    """SigLIP's pooling head by the names behind `vision_model.head.`; 1152 and 4304 wide in so400m."""
    shapes: dict[str, tuple[int, ...]] = {
        "probe": (1, 1, width),
        "attention.in_proj_weight": (3 * width, width),
        "attention.in_proj_bias": (3 * width,),
        "attention.out_proj.weight": (width, width),
        "attention.out_proj.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
        "mlp.fc1.weight": (inner_width, width),
        "mlp.fc1.bias": (inner_width,),
        "mlp.fc2.weight": (width, inner_width),
        "mlp.fc2.bias": (width,),
    }
    return _draw(shapes, seed)


def siglip_file(head: dict[str, Tensor], prefix: str = "vision_model.") -> dict[str, Tensor]:
    """Some of a SigLIP vision model's tensors, its pooling head among them."""
    own = {f"{prefix}post_layernorm.weight": torch.ones(3), "text_model.head.weight": torch.ones(3)}
    return own | {f"{prefix}head.{key}": x for key, x in head.items()}


def flat(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Nested keys joined by dots."""
    return {f"{part}.{key}": x for part, tensors in state.items() for key, x in tensors.items()}


def _draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    is_meta = torch.get_default_device().type == "meta"
    return {key: torch.empty(shape) if is_meta else torch.randn(shape, generator=g) for key, shape in shapes.items()}
