"""Thin Z-Image, SD 3.5, Qwen-Image and Krea 2 with random weights, text encoders and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from anima_lab import thin_vae
from check_training import codec
from lab import PACK
from mmdit_lab import SD3 as SMALL_SD3

Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 8, "dim": 256, "cap_feat_dim": 2560, "n_layers": 3,
    "n_refiner_layers": 2, "qk_norm": True, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512], "rope_theta": 256.0, "ffn_dim_multiplier": 1.0, "z_image_modulation": True,
    "time_scale": 1000.0, "pad_tokens_multiple": 32,
}  # fmt: skip
QWEN_IMAGE = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 3, "attention_head_dim": 24,
    "num_attention_heads": 2, "joint_attention_dim": 3584, "axes_dims_rope": (4, 10, 10),
}  # fmt: skip
SD3 = SMALL_SD3 | {
    "in_channels": 8, "num_blocks": 3, "adm_in_channels": 2048,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
}  # fmt: skip
KREA2 = {
    "image_model": "krea2", "features": 96, "heads": 2, "kvheads": 1, "multiplier": 1, "layers": 3, "channels": 16,
    "txtdim": 128, "txtlayers": 12, "txtheads": 2, "txtkvheads": 2,
}  # fmt: skip
SMALL_QWEN = {"intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


@dataclass(frozen=True)
class Thin:
    """One thin base: its row's changes, what the host calls it, its network, text encoder and codec, its latents."""

    row: str
    changes: dict[str, Any]
    kind: str
    base: str
    sizes: dict[str, Any]
    clip: Callable[[], Any]
    vae: Callable[[], Any]
    shape: tuple[int, ...]


def z_image_clip() -> Any:
    from comfy.text_encoders import z_image
    from flux_lab import clip_of

    return clip_of(z_image.te(), z_image.ZImageTokenizer, qwen3_4b={**SMALL_QWEN, "num_hidden_layers": 3})


def qwen_image_clip() -> Any:
    from comfy.text_encoders import qwen_image, qwen_vl
    from flux_lab import clip_of

    with without_picture_tower(qwen_vl, "Qwen2VLVisionTransformer"):
        small = {**SMALL_QWEN, "num_hidden_layers": 2}
        return clip_of(qwen_image.te(), qwen_image.QwenImageTokenizer, qwen25_7b=small)


def krea2_clip() -> Any:
    from comfy.text_encoders import krea2, qwen3vl
    from flux_lab import clip_of

    with without_picture_tower(qwen3vl, "Qwen3VLVisionModel"):
        small = {**SMALL_QWEN, "hidden_size": KREA2["txtdim"], "num_hidden_layers": 36}
        made = clip_of(krea2.te(), krea2.Krea2Tokenizer, qwen3vl_4b=small)
    made.tokenizer.qwen3vl_4b.embedding_size = KREA2["txtdim"]
    return made


def sd3_clip(has_t5: bool = True) -> Any:
    from comfy.text_encoders import sd3_clip
    from flux_lab import SMALL_CLIP, SMALL_T5, clip_of

    deep = {**SMALL_CLIP, "num_hidden_layers": 3}  # the last layer but one is read
    made = sd3_clip.sd3_clip(t5=has_t5, dtype_t5=torch.float16)
    return clip_of(made, sd3_clip.SD3Tokenizer, clip_l=deep, clip_g=deep, t5xxl=SMALL_T5)


@contextmanager
def without_picture_tower(module: Any, name: str) -> Iterator[None]:
    """The language model's tower for pictures has one size, and no text needs it."""
    from torch import nn

    kept = getattr(module, name)
    setattr(module, name, lambda *_, **__: nn.Identity())
    try:
        yield
    finally:
        setattr(module, name, kept)


def blocks(stage: str, count: int) -> tuple[tuple[str, int, int, int], ...]:
    """Rows of a thin family's blocks, of which the second decides."""
    found: tuple[tuple[str, int, int, int], ...] = PACK["dci_core.families.table"].blocks_of(stage, count, (1,))
    return found


def others() -> dict[str, Thin]:
    """The thin bases by name."""
    return {
        "z_image": Thin(
            "z_image",
            {"blocks": blocks("layer", 3), "channels": (256, 256), "context_width": 256, "latent_channels": 8},
            *("ZImage", "Lumina2", Z_IMAGE, z_image_clip),
            lambda: PACK["nodes.host.tiny.unet"].host_vae(codec()),
            (1, 8, 16, 16),
        ),
        "sd3": Thin(
            "sd35_medium",
            {"blocks": blocks("context", 3), "channels": (128, 128), "context_width": 128, "latent_channels": 8},
            *("SD3", "SD3", SD3, sd3_clip),
            lambda: PACK["nodes.host.tiny.unet"].host_vae(codec()),
            (1, 8, 16, 16),
        ),
        "qwen_image": Thin(
            "qwen_image",
            {"blocks": blocks("joint", 3), "channels": (48, 48), "context_width": 48},
            *("QwenImage", "QwenImage", QWEN_IMAGE, qwen_image_clip, thin_vae, (1, 16, 1, 16, 16)),
        ),
        "krea2": Thin(
            "krea2",
            {
                **{"blocks": blocks("layer", 3), "channels": (96, 96), "context_width": KREA2["txtdim"]},
                "encoders": {"qwen3vl_4b": KREA2["txtdim"]},
            },
            *("Krea2", "Krea2", KREA2, krea2_clip, thin_vae, (1, 16, 1, 16, 16)),
        ),
    }
