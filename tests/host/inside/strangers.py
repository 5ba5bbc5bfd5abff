"""Models that the pack must refuse, or take with care: a transformer, eight bits, packed weights, another family."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from check_tiny import worlds
from lab import PACK, small_model


def flux_model() -> Any:
    """A small diffusion transformer in a patcher."""
    from comfy import model_base, model_patcher, supported_models
    from comfy.ldm.flux.model import FluxParams

    sizes = {"in_channels": 16, "out_channels": 16, "vec_in_dim": 32, "context_in_dim": 32, "hidden_size": 64}
    blocks = {"mlp_ratio": 4.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [8, 12, 12]}
    rest = {"image_model": "flux", "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": False}
    if "txt_ids_dims" in {field.name for field in dataclasses.fields(FluxParams)}:  # asked for by newer hosts
        rest["txt_ids_dims"] = []
    config = supported_models.Flux({**sizes, **blocks, **rest})
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    return model_patcher.ModelPatcher(model_base.Flux(config, device=cpu), load_device=cpu, offload_device=cpu)


def bare_unet(core: Any, weights: torch.dtype, computes: torch.dtype | None, operations: Any = None) -> Any:
    """The host's model of the tiny world's U-Net, its weights still to be loaded."""
    from comfy import latent_formats, model_base, supported_models

    class Latents(latent_formats.LatentFormat):  # type: ignore[misc, name-defined]
        latent_channels = 8

    class Config(supported_models.SD15):  # type: ignore[misc, name-defined]
        unet_extra_config: dict[str, Any] = {}
        latent_format = Latents

    config = Config(PACK["nodes.host.tiny.unet"].unet_config(core.unet.params))
    config.set_inference_dtype(weights, computes)
    config.custom_operations = operations
    return model_base.BaseModel(config, device=torch.device("cpu"))


def fp8_model() -> Any:
    """The random tiny world with a U-Net of eight bits that computes in fp32."""
    from comfy import model_patcher

    core, whole, _ = worlds()
    cpu = torch.device("cpu")
    model = bare_unet(core, torch.float8_e4m3fn, torch.float32)
    model.diffusion_model.load_state_dict(whole.model.diffusion_model.state_dict())
    return model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def gguf_model() -> Any:
    """The tiny world with one value weight as packed bytes of another shape, as packs for quantised files hold them."""
    patcher = PACK["nodes.host.tiny.unet"].host_model(worlds()[0])
    layer = patcher.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_v
    packed = torch.zeros(layer.weight.shape[0], 40, dtype=torch.uint8)
    layer.weight = torch.nn.Parameter(packed, requires_grad=False)
    return patcher


def clip_of_another_family(clip: Any) -> Any:
    """A CLIP that says it is as wide as SD 1.5's."""
    other = clip.clone()
    other.tokenizer = copy.copy(clip.tokenizer)
    other.tokenizer.clip_l = copy.copy(clip.tokenizer.clip_l)
    other.tokenizer.clip_l.embedding_size = 768
    return other


def small_sd_model() -> Any:
    """A U-Net of the tiny layout whose text is wider than the tiny world's: no family has it."""
    model = small_model()
    model.model.model_config.unet_config = {**model.model.model_config.unet_config, "context_dim": 96}
    return model
