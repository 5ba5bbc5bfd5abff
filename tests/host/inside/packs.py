"""Nodes of other packs that act beside DCI, each with random weights where it wants a model.

Some packs install things when they are imported: put them into a copy of the host, with an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lab import conditioning, small_model, text
from pack_draws import TILE, contexts, coupled, detailed, keyframed, regional, shark, upscaled
from pack_loading import PackNode
from pack_models import an_image, an_ipadapter, ramp
from torch import Tensor

ONE = {"shape": (1, 4, 16, 16)}
TWO = {"shape": (2, 4, 16, 16)}
LIMITS: dict[str, Any] = {"sigma_start": -1.0, "sigma_end": -1.0, "rescale": 0.0, "rescale_mode": "full"}
MIDDLE: dict[str, Any] = {"scale": 3.0, "unet_block": "middle", "unet_block_id": 0, "unet_block_list": "", **LIMITS}
DYNAMIC: dict[str, Any] = {"mimic_scale": 3.0, "threshold_percentile": 0.9}
TILED: dict[str, Any] = {"tile_width": TILE, "tile_height": TILE, "tile_overlap": 32, "tile_batch_size": 2}
FIRST_BLOCK: dict[str, Any] = {
    "object_to_patch": "diffusion_model", "residual_diff_threshold": 0.5, "start": 0.0, "end": 1.0,
    "max_consecutive_cache_hits": -1,
}  # fmt: skip
PAG, KJ, CGEM = "sd-perturbed-attention", "ComfyUI-KJNodes", "cgem156-ComfyUI"


def ipadapter(images: int, mask: Tensor | None = None) -> Callable[[], dict[str, Any]]:
    """Inputs of IPAdapter Batch (a picture each) and Advanced."""

    def inputs() -> dict[str, Any]:
        adapter, vision = an_ipadapter(small_model())
        how = {"weight": 1.0, "weight_type": "linear", "combine_embeds": "concat", "start_at": 0.0, "end_at": 1.0}
        rest = {"embeds_scaling": "V only", "encode_batch_size": 0, "clip_vision": vision, "attn_mask": mask}
        return {"ipadapter": adapter, "image": an_image(images), **how, **rest}

    return inputs


PACKS: dict[str, PackNode] = {
    "Advanced-ControlNet: Latent Keyframe of picture 1": PackNode(
        "ComfyUI-Advanced-ControlNet", "", run=TWO, beside=keyframed
    ),
    "IPAdapter_plus: IPAdapter Advanced": PackNode("ComfyUI_IPAdapter_plus", "IPAdapterAdvanced", ipadapter(1)),
    "IPAdapter_plus: IPAdapter Batch, two images": PackNode(
        "ComfyUI_IPAdapter_plus", "IPAdapterBatch", ipadapter(2), TWO
    ),
    "IPAdapter_plus: with an attention mask": PackNode(
        "ComfyUI_IPAdapter_plus", "IPAdapterAdvanced", ipadapter(1, ramp(128).round())
    ),
    "AnimateDiff-Evolved: windows of four of eight frames": PackNode(
        "ComfyUI-AnimateDiff-Evolved", "ADE_UseEvolvedSampling", contexts, {"shape": (8, 4, 16, 16)},
        told="the same rows in both branches", acts=False,
    ),
    "prompt-control: COUPLE": PackNode("comfyui-prompt-control", "", beside=coupled),
    "cgem156: Attention Couple": PackNode(
        CGEM, "AttentionCouple|cgem156",
        lambda: {"base_mask": 1 - ramp(), "mask_1": ramp(), "cond_1": conditioning(text(8))},
    ),
    "cgem156: Attention Couple, a region of no area": PackNode(
        CGEM, "AttentionCouple|cgem156",
        lambda: {"base_mask": torch.ones(1, 16, 16), "mask_1": torch.zeros(1, 16, 16), "cond_1": conditioning(text(8))},
        acts=False,
    ),
    "cgem156: Attention Scale": PackNode(
        CGEM, "AttentionScale|cgem156",
        {"temperature": 0.7, "start_step": 0.0, "end_step": 1.0, "attn1": True, "attn2": True},
    ),
    "KJNodes: Differential Diffusion Advanced": PackNode(
        KJ, "DifferentialDiffusionAdvanced",
        lambda: {"samples": {"samples": torch.zeros(1, 4, 16, 16)}, "mask": ramp(128), "multiplier": 1.0},
        {"mask": ramp().reshape(1, 1, 16, 16)},
    ),
    "KJNodes: CFG Zero Star and Init": PackNode(
        KJ, "CFGZeroStarAndInit", {"use_zero_init": True, "zero_init_steps": 0}
    ),
    "Impact: Detailer (SEGS)": PackNode("ComfyUI-Impact-Pack", "", run=ONE, draw=detailed),
    "Impact: Regional Sampler": PackNode("ComfyUI-Impact-Pack", "", run=ONE, draw=regional),
    "Ultimate SD Upscale": PackNode("ComfyUI_UltimateSDUpscale", "", run=ONE, draw=upscaled),
    "TiledDiffusion: MultiDiffusion": PackNode(
        "ComfyUI-TiledDiffusion", "TiledDiffusion", {"method": "MultiDiffusion", **TILED}
    ),
    "TiledDiffusion: Mixture of Diffusers": PackNode(
        "ComfyUI-TiledDiffusion", "TiledDiffusion", {"method": "Mixture of Diffusers", **TILED}
    ),
    "PAG pack: Perturbed-Attention Guidance": PackNode(PAG, "PerturbedAttention", {"adaptive_scale": 0.0, **MIDDLE}),
    "PAG pack: Smoothed Energy Guidance": PackNode(
        PAG, "SmoothedEnergyGuidanceAdvanced", {"blur_sigma": 1.0, **MIDDLE}
    ),
    "PAG pack: Sliding Window Guidance": PackNode(
        PAG, "SlidingWindowGuidanceAdvanced",
        {"scale": 3.0, "tile_width": TILE, "tile_height": TILE, "tile_overlap": 32, **LIMITS},
    ),
    "PAG pack: Normalized Attention Guidance": PackNode(
        PAG, "NormalizedAttentionGuidance",
        {"negative": conditioning(text(9)), "scale": 2.0, "tau": 2.5, "alpha": 0.5, "unet_block_list": "", **LIMITS},
    ),
    "PAG pack: PLADIS": PackNode(PAG, "PLADIS", {"scale": 2.0, "sparse_func": "entmax1.5", "unet_block_list": ""}),
    "PAG pack: Token Perturbation Guidance": PackNode(
        PAG, "TokenPerturbationGuidance", {"scale": 3.0, "unet_block_list": "m0", **LIMITS}
    ),
    "PAG pack: Momentum Guidance": PackNode(PAG, "MomentumGuidance", {"momentum": 0.5, "ema": 0.6}),
    "RES4LYF: ClownsharKSampler": PackNode("RES4LYF", "", run=TWO, draw=shark),
    "DynamicThresholding: Simple": PackNode("sd-dynamic-thresholding", "DynamicThresholdingSimple", DYNAMIC),
    "DynamicThresholding: Full": PackNode(
        "sd-dynamic-thresholding", "DynamicThresholdingFull",
        {
            **DYNAMIC, "mimic_mode": "Half Cosine Up", "mimic_scale_min": 1.0, "cfg_mode": "Half Cosine Up",
            "cfg_scale_min": 1.0, "sched_val": 4.0, "separate_feature_channels": "enable", "scaling_startpoint": "MEAN",
            "variability_measure": "AD", "interpolate_phi": 0.8,
        },
    ),
    "WaveSpeed: Apply First Block Cache": PackNode(
        "Comfy-WaveSpeed", "ApplyFBCacheOnModel", FIRST_BLOCK, {"steps": 8}, told="First Block Cache"
    ),
    "ppm: CFG++ and NegPip": PackNode("ComfyUI-ppm", "CLIPNegPip"),
}  # fmt: skip
