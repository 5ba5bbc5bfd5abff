"""The tiny flow world in the host's own classes: its Flux network, its text encoder, its CLIP vision model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ....dci_core.flux.layers import FluxParams
from ....dci_core.flux.transformer import MMDiT
from ....dci_core.tiny.codec import LATENT_CHANNELS
from ....dci_core.tiny.flow.model import SLOTS, load_flow_world
from ....dci_core.tiny.flow.sampling import FlowSettings
from ....dci_core.tiny.flow.vision import VisionTower
from .unet import give_previews, host_clip, host_vae, shipped


def load_flow() -> tuple[Any, Any, Any, Any]:
    """(MODEL, CLIP, VAE, CLIP_VISION) of the tiny flow world with its trained weights; raises BadModel."""
    world = shipped(load_flow_world)
    model = host_flow(world.model.mmdit)
    give_previews(model, world.codec)
    return model, host_clip(world.model, SLOTS), host_vae(world.codec), host_vision(world.vision)


def host_flow(mmdit: MMDiT) -> Any:
    """The tiny MM-DiT as the host's Flux inside a patcher, with the schedule that the world samples by."""
    from comfy import latent_formats, model_base, model_management, model_patcher, supported_models

    class TinyLatents(latent_formats.LatentFormat):  # type: ignore[misc, name-defined]
        latent_channels = LATENT_CHANNELS

    class TinyFlow(supported_models.Flux):  # type: ignore[misc, name-defined]
        latent_format = TinyLatents
        sampling_settings = {"shift": FlowSettings().shift, "multiplier": 1.0}
        memory_usage_factor = 0.1

    config = TinyFlow(flux_config(mmdit.params))
    config.set_inference_dtype(torch.float32, None)
    model = model_base.Flux(config, model_type=model_base.ModelType.FLOW, device=torch.device("cpu"))
    known = model.diffusion_model.state_dict()
    newer = {name: name.replace("_norm.scale", "_norm.weight") for name in mmdit.state_dict()}
    state = {name if name in known else newer[name]: value for name, value in mmdit.state_dict().items()}
    model.diffusion_model.load_state_dict(state, strict=True)
    device, offload = model_management.get_torch_device(), model_management.unet_offload_device()
    return model_patcher.ModelPatcher(model.eval(), load_device=device, offload_device=offload)


def flux_config(params: FluxParams) -> dict[str, Any]:
    """The host's names for the sizes of the tiny MM-DiT."""
    from comfy.ldm.flux import model

    known = {field.name for field in dataclasses.fields(model.FluxParams)}
    return {
        "image_model": "flux",
        "in_channels": params.channels,
        "out_channels": params.channels,
        "vec_in_dim": params.vector_width,
        "context_in_dim": params.text_width,
        "hidden_size": params.width,
        "mlp_ratio": float(params.mlp_ratio),
        "num_heads": params.heads,
        "depth": params.double_blocks,
        "depth_single_blocks": params.single_blocks,
        "axes_dim": list(params.axes),
        "theta": params.theta,
        "patch_size": params.patch,
        "qkv_bias": True,
        "guidance_embed": params.guidance,
        **({"txt_ids_dims": []} if "txt_ids_dims" in known else {}),
    }


def host_vision(tower: VisionTower) -> Any:
    """The tiny vision tower as the host's CLIP_VISION."""
    from comfy.clip_vision import ClipVisionModel

    with TemporaryDirectory() as folder:  # older hosts read a file alone
        path = Path(folder) / "vision.json"
        path.write_text(json.dumps(tower.params.config()), encoding="utf-8")
        vision = ClipVisionModel(str(path))
    vision.model.to(torch.float32).load_state_dict(tower.state_dict(), strict=True)
    vision.dtype = torch.float32
    return vision
