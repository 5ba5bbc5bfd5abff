"""Other packs' ways to change the pair's conditioning and to draw a picture."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from lab import conditioning, small_model, text
from neighbours import NEGATIVE, run_node
from pack_loading import nodes_of, with_extras
from pack_models import FlatVae, a_control, an_image, ramp
from torch import Tensor

TILE = 64  # pixels: half of the lab's pictures


def keyframed(positive: Any) -> Any:
    """The pair's conditioning with a control of Advanced-ControlNet that acts on the second picture alone."""
    known = nodes_of("ComfyUI-Advanced-ControlNet")
    keyframe = run_node(known["LatentKeyframe"], batch_index=1, strength=1.0)[0]
    every = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "mask_optional": None}
    none = {"timestep_kf": None, "weights_override": None, "model_optional": None, "vae_optional": None}
    return run_node(
        known["ACN_AdvancedControlNetApply"], positive=positive, negative=NEGATIVE, control_net=a_control(),
        image=an_image(2), latent_kf_override=keyframe, **every, **none,
    )[0]  # fmt: skip


def coupled(positive: Any) -> Any:
    """The pair's conditioning with prompt-control's couple: another text in the right half."""
    nodes_of("comfyui-prompt-control")
    module = next(each for name, each in sys.modules.items() if name.endswith("prompt_control.attention_couple_ppm"))
    base = [[positive[0][0], {**positive[0][1], "mask": 1 - ramp(), "mask_strength": 1.0}]]
    other = [text(8), {"mask": ramp(), "mask_strength": 1.0}]
    return module.set_cond_attnmask(base, [other])


def shark(model: Any, positive: Any, negative: Any, *, shape: Any, steps: int, **_: Any) -> Tensor:
    """A picture by RES4LYF's own sampler."""
    kind = nodes_of("RES4LYF")["ClownsharKSampler_Beta"]
    given = {"positive": positive, "negative": negative, "latent_image": {"samples": torch.zeros(*shape)}}
    how = {"steps": steps, "cfg": 5.0, "seed": 5, "eta": 0.0, "sampler_name": "multistep/res_2m"}
    return run_node(kind, model=model, scheduler="karras", bongmath=False, **given, **how)[0]["samples"]


def detailed(model: Any, positive: Any, negative: Any, *, steps: int, **_: Any) -> Tensor:
    """Latents of the middle of a picture, which Impact's detailer draws anew."""
    known, vae = nodes_of("ComfyUI-Impact-Pack"), FlatVae()
    core = importlib.import_module("impact.core")
    crop, mask = (32, 32, 96, 96), torch.ones(64, 64).numpy()
    seg = core.SEG(None, mask, 1.0, crop, crop, "middle", None)
    how = {"guide_size": 64, "guide_size_for": True, "max_size": 128, "seed": 5, "steps": steps, "cfg": 5.0}
    rest = {"sampler_name": "euler", "scheduler": "normal", "denoise": 0.9, "feather": 5, "noise_mask": True}
    run_node(
        known["DetailerForEach"], image=an_image(1), segs=((128, 128), [seg]), model=model, clip=None, vae=vae,
        positive=positive, negative=negative, force_inpaint=True, wildcard="", cycle=1, **how, **rest,
    )  # fmt: skip
    return torch.cat(vae.decoded)


def regional(model: Any, positive: Any, negative: Any, *, shape: Any, steps: int, **_: Any) -> Tensor:
    """A picture by Impact's regional sampler: the right half with the model, the rest without ours, another prompt."""
    known = nodes_of("ComfyUI-Impact-Pack")
    with_extras("nodes_mask")

    def sampler(model: Any, words: Any) -> Any:
        pipe = (model, None, None, words, negative)
        how = {"cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
        return run_node(known["KSamplerAdvancedProvider"], basic_pipe=pipe, **how)[0]

    prompts = run_node(known["RegionalPrompt"], mask=ramp().round(), advanced_sampler=sampler(model, positive))[0]
    how = {"seed": 5, "seed_2nd": 0, "seed_2nd_mode": "ignore", "steps": steps, "base_only_steps": 1, "denoise": 1.0}
    rest = {"overlap_factor": 1, "restore_latent": True, "additional_mode": "DISABLE", "additional_sampler": "AUTO"}
    return run_node(
        known["RegionalSampler"], samples={"samples": torch.zeros(1, *shape[1:])}, regional_prompts=prompts,
        base_sampler=sampler(small_model(), conditioning(text(8))), additional_sigma_ratio=0.3, **how, **rest,
    )[0]["samples"]  # fmt: skip


def upscaled(model: Any, positive: Any, negative: Any, *, steps: int, **_: Any) -> Tensor:
    """Latents of a picture that Ultimate SD Upscale draws anew in four tiles."""
    kind, vae = nodes_of("ComfyUI_UltimateSDUpscale")["UltimateSDUpscaleNoUpscale"], FlatVae()
    how = {"seed": 5, "steps": steps, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.9}
    tiles = {"mode_type": "Linear", "tile_width": TILE, "tile_height": TILE, "mask_blur": 0, "tile_padding": 0}
    seams = {"seam_fix_mode": "None", "seam_fix_denoise": 1.0, "seam_fix_width": 64, "seam_fix_mask_blur": 8}
    run_node(
        kind, upscaled_image=an_image(1), model=model, positive=positive, negative=negative, vae=vae,
        seam_fix_padding=16, force_uniform_tiles=True, tiled_decode=False, batch_size=1, **how, **tiles, **seams,
    )  # fmt: skip
    return torch.cat(vae.decoded)


def contexts() -> dict[str, Any]:
    """AnimateDiff-Evolved's windows of four of eight frames, without a motion model."""
    known = nodes_of("ComfyUI-AnimateDiff-Evolved")
    options = run_node(known["ADE_StandardStaticContextOptions"], context_length=4, context_overlap=1)[0]
    return {"beta_schedule": "use existing", "context_options": options}
