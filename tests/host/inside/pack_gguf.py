"""The tiny world's U-Net as a GGUF base: linear weights packed in Q8_0, run by the operations of ComfyUI-GGUF."""

from __future__ import annotations

import sys
from typing import Any

import torch
from pack_loading import nodes_of
from strangers import bare_unet


def gguf_base(core: Any) -> Any:
    """The patcher of that pack around the tiny world's U-Net."""
    nodes_of("ComfyUI-GGUF")
    import gguf

    ops, loaders = (sys.modules[name] for end in (".ops", ".nodes") for name in sys.modules if is_of_pack(name, end))

    cpu, kinds = torch.device("cpu"), gguf.GGMLQuantizationType
    model = bare_unet(core, torch.float32, None, ops.GGMLOps)
    packed = {}
    for name, weight in core.unet.state_dict().items():
        values, kind = weight.float().contiguous(), kinds.F32
        if name.endswith("weight") and weight.ndim == 2 and weight.shape[1] % 32 == 0:
            kind = kinds.Q8_0
            values = torch.from_numpy(gguf.quants.quantize(values.numpy(), kind))
        packed[name] = ops.GGMLTensor(values, tensor_type=kind, tensor_shape=weight.shape)
    model.diffusion_model.load_state_dict(packed, strict=False)
    return loaders.GGUFModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def is_of_pack(name: str, end: str) -> bool:
    """Whether a loaded module is that file of the pack."""
    return name.endswith(f"ComfyUI-GGUF{end}")
