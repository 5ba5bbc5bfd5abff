"""The tiny world's U-Net as a GGUF base: linear weights packed in Q8_0, run by the operations of ComfyUI-GGUF."""

from __future__ import annotations

import sys
from typing import Any

import torch
from lab import PACK
from pack_loading import nodes_of


def gguf_base(core: Any) -> Any:
    """The patcher of that pack around the tiny world's U-Net."""
    from comfy import latent_formats, model_base, supported_models

    nodes_of("ComfyUI-GGUF")
    import gguf

    ops, loaders = (sys.modules[name] for end in (".ops", ".nodes") for name in sys.modules if is_of_pack(name, end))

    class Latents(latent_formats.LatentFormat):  # type: ignore[misc, name-defined]
        latent_channels = 8

    class Config(supported_models.SD15):  # type: ignore[misc, name-defined]
        unet_extra_config: dict[str, Any] = {}
        latent_format = Latents

    config = Config(PACK["nodes.host.tiny.unet"].unet_config(core.unet.params))
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = ops.GGMLOps
    cpu, kinds = torch.device("cpu"), gguf.GGMLQuantizationType
    model = model_base.BaseModel(config, device=cpu)
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
