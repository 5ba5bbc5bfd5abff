"""Thin models of Flux's layout with random weights, text encoders and all: "flux", "klein", "chroma"."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from anima_lab import fill
from check_training import codec
from lab import PACK
from marks import Absent
from stream_lab import others

WIDTH, CHANNELS, DOUBLES, SINGLES = 48, 8, 2, 3
CHANGES = {"flux": "flux", "klein": "flux2_klein_4b", "chroma": "chroma"}  # the row that each thin one is made from
COMMON = {
    "hidden_size": WIDTH, "mlp_ratio": 2.0, "num_heads": 2, "depth": DOUBLES, "depth_single_blocks": SINGLES,
    "theta": 10000,
}  # fmt: skip
FLUX = {
    **COMMON, "image_model": "flux", "in_channels": CHANNELS, "out_channels": CHANNELS, "vec_in_dim": 768,
    "context_in_dim": 4096, "axes_dim": [4, 10, 10], "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
    "txt_ids_dims": [],
}  # fmt: skip
KLEIN = {
    **COMMON, "depth_single_blocks": SINGLES + 1,  # so that it is told from FLUX.1
    "image_model": "flux2", "in_channels": CHANNELS, "out_channels": CHANNELS, "vec_in_dim": None,
    "context_in_dim": 7680, "axes_dim": [6, 6, 6, 6], "patch_size": 1, "qkv_bias": False, "guidance_embed": False,
    "txt_ids_dims": [3], "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0,
}  # fmt: skip
CHROMA = {
    **COMMON, "image_model": "chroma", "in_channels": 4 * CHANNELS, "out_channels": 4 * CHANNELS, "vec_in_dim": 768,
    "context_in_dim": 4096, "axes_dim": [4, 10, 10], "patch_size": 2, "qkv_bias": True, "in_dim": 64,
    "out_dim": WIDTH, "hidden_dim": 64, "n_layers": 1, "txt_ids_dims": [],
}  # fmt: skip
SMALL_CLIP = {"num_hidden_layers": 1, "intermediate_size": 128}
SMALL_T5 = {"num_layers": 2, "d_ff": 128, "num_heads": 2}
SMALL_QWEN = {"intermediate_size": 64, "num_hidden_layers": 28, "num_attention_heads": 2, "num_key_value_heads": 1}


def family(kind: str) -> Any:
    """The thin model's row, known from here on."""
    table = PACK["dci_core.families.table"]
    if thin := others().get(kind):
        row = replace(table.FAMILIES[thin.row], name=f"lab_{kind}", picture_size=64, **thin.changes)
        return table.FAMILIES.setdefault(row.name, row)
    name, whole = f"lab_{kind}", table.FAMILIES[CHANGES[kind]]
    blocks = (*table.blocks_of("double", DOUBLES, (1,)), *table.blocks_of("single", SINGLES + (kind == "klein")))
    thin = {"name": name, "blocks": blocks, "channels": (WIDTH, WIDTH), "context_width": WIDTH, "picture_size": 64}
    return table.FAMILIES.setdefault(name, replace(whole, **thin, latent_channels=CHANNELS, latent_scale=8))


@cache
def worlds(kind: str) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of a thin model; raises Absent where the host has not got it."""
    from comfy import model_base, model_patcher, supported_models

    thin = others().get(kind)
    if thin is not None:
        name, base, sizes = thin.kind, thin.base, thin.sizes
    else:
        base, sizes = {"flux": ("Flux", FLUX), "klein": ("Flux2", KLEIN), "chroma": ("Chroma", CHROMA)}[kind]
        name, sizes = base, known(sizes)
    if not hasattr(supported_models, name):
        raise Absent(f"this ComfyUI has no {name}")
    row = family(kind)
    config = getattr(supported_models, name)(dict(sizes))
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    with torch.inference_mode(False), torch.no_grad():
        model = getattr(model_base, base)(config, device=cpu)
        fill(model.diffusion_model)
        model.latent_format.latent_channels = row.latent_channels
        clip = CLIPS[kind]() if thin is None else thin.clip()
        fill(clip.cond_stage_model, 1)
        vae = PACK["nodes.host.tiny.unet"].host_vae(codec()) if thin is None else thin.vae()
    return model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu), clip, vae


def known(sizes: dict[str, Any]) -> dict[str, Any]:
    """Sizes without those that an older host does not know."""
    from comfy.ldm.chroma.model import ChromaParams
    from comfy.ldm.flux.model import FluxParams

    params = ChromaParams if sizes["image_model"] == "chroma" else FluxParams
    names = {field.name for field in dataclasses.fields(params)} | {"image_model"}
    return {name: value for name, value in sizes.items() if name in names}


def clip_of(target: Any, tokenizer: Any, **sizes: Any) -> Any:
    """A CLIP of the host's classes in these sizes; its tokenizers are the host's own."""
    from comfy import sd

    options = {"dtype": torch.float16, **{f"{name}_model_config": value for name, value in sizes.items()}}
    return sd.CLIP(SimpleNamespace(params={}, clip=target, tokenizer=tokenizer), model_options=options)


def flux_clip() -> Any:
    from comfy.text_encoders import flux

    return clip_of(flux.flux_clip(dtype_t5=torch.float16), flux.FluxTokenizer, clip_l=SMALL_CLIP, t5xxl=SMALL_T5)


def klein_clip() -> Any:
    from comfy.text_encoders import flux

    return clip_of(flux.klein_te(), flux.KleinTokenizer, qwen3_4b=SMALL_QWEN)


def chroma_clip() -> Any:
    from comfy.text_encoders import pixart_t5

    return clip_of(pixart_t5.pixart_te(), pixart_t5.PixArtTokenizer, t5xxl=SMALL_T5)


CLIPS: dict[str, Callable[[], Any]] = {"flux": flux_clip, "klein": klein_clip, "chroma": chroma_clip}


@cache
def concept(kind: str) -> Any:
    """A concept of random weights, rank 4, with two modifier tokens."""
    deltas, names = PACK["dci_core.concept.deltas"], PACK["dci_core.concept.learned"]
    source = torch.Generator().manual_seed(4)

    row = family(kind)

    def change(layer: Any) -> Any:
        up, down = (torch.randn(width, 4, generator=source) for width in (row.width(layer), row.context_width))
        return deltas.Delta(up * 0.15, down.T * 0.15)

    changes = {layer: deltas.LayerDelta(change(layer), change(layer)) for layer in row.learned_layers}
    tokens = {name: torch.randn(2, width, generator=source) for name, width in row.encoders.items()}
    return names.Concept(row.name, "zorp", "fish", tokens, changes)
