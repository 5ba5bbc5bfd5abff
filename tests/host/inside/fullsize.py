"""Checkpoints of real models' shapes with random weights, written tensor by tensor: none is ever whole in memory."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
FOUR_LEVELS = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "adm_in_channels": None,
}
KL_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
V_MARK = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"  # large where v is predicted


@dataclass(frozen=True)
class Kind:
    """A real model: the host's name for its configuration, its U-Net's sizes, where its text encoders are."""

    config: str
    clip: Callable[[], Any]
    unet: Mapping[str, Any] = field(default_factory=dict)
    predicts_v: bool = False


def clip_of_sd15() -> Any:
    from comfy.sd1_clip import SD1ClipModel

    return SD1ClipModel


def clip_of_sd21() -> Any:
    from comfy.text_encoders.sd2_clip import SD2ClipModel

    return SD2ClipModel


def clip_of_sdxl() -> Any:
    from comfy.sdxl_clip import SDXLClipModel

    return SDXLClipModel


KINDS = {
    "sd15": Kind(
        "SD15",
        clip_of_sd15,
        {
            **FOUR_LEVELS,
            "context_dim": 768,
            "use_linear_in_transformer": False,
            "num_heads": 8,
            "num_head_channels": -1,
        },
    ),
    "sd21": Kind(
        "SD20",
        clip_of_sd21,
        {**FOUR_LEVELS, "context_dim": 1024, "use_linear_in_transformer": True, "num_head_channels": 64},
        predicts_v=True,
    ),
    "sdxl": Kind(
        "SDXL",
        clip_of_sdxl,
        {
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
            "context_dim": 2048,
            "use_linear_in_transformer": True,
            "num_head_channels": 64,
            "num_classes": "sequential",
            "adm_in_channels": 2816,
        },
    ),
}


def shapes_of(kind: Kind) -> dict[str, torch.Size]:
    """Name and shape of every tensor in a checkpoint file of this kind, as the host itself would save it."""
    from comfy import ops, supported_models
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = getattr(supported_models, kind.config)({**COMMON, **kind.unet})
    with torch.device("meta"):
        sizes = {name: value for name, value in {**COMMON, **kind.unet}.items() if value is not None}
        unet = UNetModel(**sizes, dtype=torch.float16, device="meta", operations=ops.disable_weight_init)
        text = kind.clip()(device="meta", dtype=torch.float16)
        vae = AutoencoderKL(embed_dim=4, ddconfig=KL_VAE)
    parts = (
        config.process_unet_state_dict_for_saving(unet.state_dict()),
        config.process_clip_state_dict_for_saving(text.state_dict()),
        config.process_vae_state_dict_for_saving(vae.state_dict()),
    )
    return {name: value.shape for part in parts for name, value in part.items() if value.is_floating_point()}


class Numbers:
    """Normal numbers, quickly: a long row of them is drawn once and read on from where the last tensor ended."""

    def __init__(self, count: int = 2**24 - 3) -> None:
        self.row, self.place = torch.randn(count, generator=torch.Generator().manual_seed(0)), 0

    def of(self, shape: torch.Size) -> Tensor:
        """The next ones, in this shape."""
        size, length = math.prod(shape), len(self.row)
        start, self.place = self.place, (self.place + size) % length
        if start + size <= length:
            return self.row[start : start + size].reshape(shape)
        return self.row.roll(-start).repeat(-(-size // length))[:size].reshape(shape)


def random_weight(name: str, shape: torch.Size, kind: Kind, numbers: Numbers) -> Tensor:
    """Matrices that keep a signal's size, norms of one, biases of zero: what comes out depends on what goes in."""
    if kind.predicts_v and name == V_MARK:
        return numbers.of(shape) * 0.2
    if "embedding" in name:
        return numbers.of(shape) * 0.02
    if len(shape) > 1:
        return numbers.of(shape) * (0.7 / math.sqrt(math.prod(shape[1:])))
    is_scale = name.endswith("weight") or name.endswith("scale")
    return torch.ones(shape) if is_scale else torch.zeros(shape)


def write_checkpoint(kind: Kind, path: Path) -> None:
    """Writes a safetensors file in fp16, one tensor after the other."""
    shapes, end = shapes_of(kind), 0
    header: dict[str, Any] = {}
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    numbers = Numbers()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(words)) + words)
        for name, shape in shapes.items():
            file.write(random_weight(name, shape, kind, numbers).half().numpy().tobytes())


@contextmanager
def loaded_checkpoint(name: str) -> Iterator[tuple[Any, Any, Any]]:
    """(MODEL, CLIP, VAE) of a random checkpoint through the stock loader node; its file is gone afterwards."""
    import folder_paths
    import nodes

    with TemporaryDirectory() as folder:
        write_checkpoint(KINDS[name], Path(folder) / f"random_{name}.safetensors")
        kept = folder_paths.folder_names_and_paths["checkpoints"]
        folder_paths.folder_names_and_paths["checkpoints"] = ([folder], {".safetensors"})
        try:
            yield nodes.CheckpointLoaderSimple().load_checkpoint(f"random_{name}.safetensors")
        finally:
            folder_paths.folder_names_and_paths["checkpoints"] = kept
