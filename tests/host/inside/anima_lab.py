"""A thin Anima of the host's own classes with random weights: network, adapter, text encoder, codec."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from lab import PACK
from marks import Absent

BLOCKS, WIDTH, HEADS, SIDE = 3, 128, 2, 64
NETWORK = {
    "image_model": "anima", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": WIDTH, "concat_padding_mask": True,
    "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d", "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30, "use_adaln_lora": True, "adaln_lora_dim": 32,
    "num_blocks": BLOCKS, "num_heads": HEADS, "extra_per_block_abs_pos_emb": False, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0,
}  # fmt: skip
ENCODER = {"intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def family() -> Any:
    """The thin model's row, known from here on."""
    table = PACK["dci_core.families.table"]
    blocks = tuple(("block", i, 1, 1) for i in range(BLOCKS))
    thin = {"name": "lab_anima", "blocks": blocks, "channels": (WIDTH, WIDTH), "picture_size": SIDE}
    return table.FAMILIES.setdefault("lab_anima", replace(table.FAMILIES["anima"], **thin))


@cache
def worlds() -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE); raises Absent on hosts that have no Anima."""
    try:
        from comfy.ldm.anima import model as anima
    except ImportError as error:
        raise Absent("this ComfyUI has no Anima") from error
    from comfy import model_base, model_patcher, supported_models

    family()
    config = supported_models.Anima(dict(NETWORK))
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode(False), torch.no_grad():
        model = model_base.Anima(config, device=torch.device("cpu"))
        network = model.diffusion_model
        network.llm_adapter = anima.LLMAdapter(
            num_layers=1, device=torch.device("cpu"), dtype=torch.float32, operations=config_operations(network)
        )
        fill(network)
        clip, vae = thin_clip(), thin_vae()
    cpu = torch.device("cpu")
    return model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu), clip, vae


def config_operations(network: Any) -> Any:
    """The host's layers as this network has them."""
    from comfy import ops

    is_cast = isinstance(network.blocks[0].mlp.layer1, ops.manual_cast.Linear)
    return ops.manual_cast if is_cast else ops.disable_weight_init


def fill(network: Any, seed: int = 0) -> None:
    """Matrices that keep a signal's size, norms of one; large tables repeat themselves."""
    source = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2 or name.endswith("gamma"):
            parameter.fill_(float(name.endswith(("weight", "scale", "gamma"))))
            continue
        is_table = parameter.shape[0] > 10000
        rows = parameter[: parameter.shape[0] // 16] if is_table else parameter
        scale = 1.0 if is_table else rows[0].numel() ** -0.5
        drawn = (torch.randn(rows.shape, generator=source) * scale).to(parameter.dtype)
        parameter.copy_(drawn.repeat(16, 1)[: parameter.shape[0]] if is_table else drawn)


def thin_clip() -> Any:
    """Anima's CLIP with a text encoder of two layers; both tokenizers are the host's own."""
    from comfy import sd
    from comfy.text_encoders import anima

    target = SimpleNamespace(params={}, clip=anima.te(), tokenizer=anima.AnimaTokenizer)
    clip = sd.CLIP(target, model_options={"dtype": torch.float16, "qwen3_06b_model_config": ENCODER})
    fill(clip.cond_stage_model, 1)
    return clip


def thin_vae() -> Any:
    """The host's codec of Wan 2.1, in a small width where the host takes one."""
    try:
        return wan_vae(16)
    except RuntimeError:  # older hosts know one width alone
        return wan_vae(96)


def wan_vae(width: int) -> Any:
    """The host's codec of Wan 2.1 with random weights."""
    from comfy import sd
    from comfy.ldm.wan.vae import WanVAE

    vae = WanVAE(dim=width, z_dim=16, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True])
    fill(vae, 2)
    return sd.VAE(sd=vae.state_dict())


def stock_lora(model: Any, made: Any) -> Any:
    """A MODEL with a concept's exported LoRA, loaded as the host's own nodes load one."""
    from comfy import sd, utils

    with TemporaryDirectory() as folder:
        PACK["dci_core.concept.exports"].export_lora(made, Path(folder) / "mine.safetensors", rank=4, precision="fp32")
        lora = utils.load_torch_file(str(Path(folder) / "mine.safetensors"), safe_load=True)
    return sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def concept(strength: float = 0.05) -> Any:
    """A concept of random weights, rank 4, with two modifier tokens."""
    deltas, names = PACK["dci_core.concept.deltas"], PACK["dci_core.concept.learned"]
    source = torch.Generator().manual_seed(4)

    def change() -> Any:
        up, down = torch.randn(WIDTH, 4, generator=source), torch.randn(4, 1024, generator=source)
        return deltas.Delta(up * strength, down * strength)

    changes = {layer: deltas.LayerDelta(change(), change()) for layer in family().layers}
    tokens = {"qwen3_06b": torch.randn(2, 1024, generator=source)}
    return names.Concept("lab_anima", "zorp", "fish", tokens, changes)
