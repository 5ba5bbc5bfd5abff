"""Opens FLUX.1 from a folder as Black Forest Labs publish it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import BadModel, BadSettings
from ..families.mmdit import find_mmdit
from ..pretrained import library, load_whole, quiet, readable
from .base import FluxBase, FluxText, pixels_per_token
from .layers import FluxParams
from .transformer import MMDiT

TRANSFORMER = "flux1-*.safetensors"
PREFIX = "model.diffusion_model."  # of a checkpoint that holds other parts too
PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
LAYOUT = f"{TRANSFORMER} and the folders {', '.join(PARTS)}"
FOLDER_DO = "name a copy of their repository with --weights"
VISION_DO = "name a folder of openai/clip-vit-large-patch14 with --vision"


def open_flux(
    folder: Path,
    vision: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    size: int = 512,
    guidance: float = 1.0,
    text_rows: int = 512,
) -> FluxBase:
    """FLUX.1 dev or schnell, frozen, on a device.

    folder     the published layout, with the transformer in Black Forest Labs' own file
    vision     a CLIP model in transformers' layout
    dtype      of transformer, text encoders and vision tower; the picture codec stays float32
    size       pixels a side of the pictures to train with
    guidance   strength that a model distilled for guidance is told
    text_rows  T5 tokens of a prompt

    Raises BadModel for a folder that does not hold it, BadSettings for a size that is no multiple of 16.
    """
    words, codecs = (library(name, "trainings on FLUX.1") for name in ("transformers", "diffusers"))
    file, seen = _transformer_file(folder), _there(vision, VISION_DO)
    for name in PARTS:
        _there(folder / name)
    codec = load_whole(codecs, "AutoencoderKL", folder / "vae", FOLDER_DO).to(device)
    if size < 1 or size % pixels_per_token(codec):
        raise BadSettings(
            f"the size is {size}", f"a multiple of {pixels_per_token(codec)} pixels was expected", "use 512, or 1024"
        )
    tower = load_whole(words, "CLIPVisionModel", seen, VISION_DO).to(device, dtype)
    clip_tokens, t5_tokens = (_tokenizer(words, folder / name) for name in ("tokenizer", "tokenizer_2"))
    kinds = {"text_encoder": "CLIPTextModel", "text_encoder_2": "T5EncoderModel"}
    clip, t5 = (load_whole(words, kind, folder / name, FOLDER_DO).to(device, dtype) for name, kind in kinds.items())
    transformer = read_transformer(file, device, dtype)
    _check_sizes(transformer.params)
    text = FluxText(clip, t5, clip_tokens, t5_tokens, text_rows)
    return FluxBase(transformer, codec, text, tower, size, guidance)


def read_transformer(path: Path, device: torch.device, dtype: torch.dtype) -> MMDiT:
    """The transformer of a file, frozen; it computes its blocks twice rather than keep them. Raises BadModel."""
    try:
        tensors = load_file(path, device=str(device))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unfit(path, "cannot be read") from error
    tensors = {name.removeprefix(PREFIX): x.to(dtype) for name, x in tensors.items()}
    try:
        with torch.device("meta"):
            model = MMDiT(sizes_of(tensors))
        model.load_state_dict(tensors, strict=True, assign=True)
    except (KeyError, IndexError, RuntimeError, ZeroDivisionError) as error:
        raise _unfit(path, "does not hold FLUX.1's transformer") from error
    model.recomputes = True
    return model.eval().requires_grad_(False)


def sizes_of(tensors: Mapping[str, Tensor]) -> FluxParams:
    """The transformer's sizes, as its tensors' names and shapes show them; KeyError where they are not its own."""
    width, token_channels = tensors["img_in.weight"].shape
    head_dim = len(tensors["double_blocks.0.img_attn.norm.query_norm.scale"])
    counts = {
        kind: len({name.split(".")[1] for name in tensors if name.startswith(f"{kind}_blocks.")})
        for kind in ("double", "single")
    }
    turning = (head_dim - head_dim // 8) // 2
    return FluxParams(
        channels=token_channels // FluxParams.patch**2,
        text_width=tensors["txt_in.weight"].shape[1],
        vector_width=tensors["vector_in.in_layer.weight"].shape[1],
        width=width,
        heads=width // head_dim,
        mlp_ratio=len(tensors["double_blocks.0.img_mlp.0.weight"]) // width,
        double_blocks=counts["double"],
        single_blocks=counts["single"],
        axes=(head_dim // 8, turning, turning),
        guidance="guidance_in.in_layer.weight" in tensors,
    )


def _check_sizes(params: FluxParams) -> None:
    family = find_mmdit("flux")
    found = params.width, params.heads, {"double": params.double_blocks, "single": params.single_blocks}
    if found != (family.width, family.heads, dict(family.blocks)):
        raise BadModel(
            f"the transformer is {found[0]} wide with {found[1]} heads and blocks {found[2]}",
            f"FLUX.1's {family.width}, {family.heads} and {dict(family.blocks)} were expected",
            "use FLUX.1 dev or schnell",
        )


def _transformer_file(folder: Path) -> Path:
    found = sorted(folder.glob(TRANSFORMER))
    if len(found) != 1:
        what = f"holds {len(found)} files {TRANSFORMER}" if folder.is_dir() else "is not there"
        raise BadModel(
            f'the folder "{folder.name}" {what}',
            f"FLUX.1 as Black Forest Labs publish it was expected: {LAYOUT}",
            FOLDER_DO,
        )
    return found[0]


def _there(folder: Path, do: str = FOLDER_DO) -> Path:
    if not folder.is_dir():
        raise BadModel(f'there is no folder "{folder.name}"', f"FLUX.1 needs {LAYOUT}, and a CLIP vision model", do)
    return folder


def _tokenizer(source: Any, folder: Path) -> Any:
    with quiet(source), readable(folder, "a tokenizer's files are expected", FOLDER_DO):
        return source.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _unfit(path: Path, what: str) -> BadModel:
    return BadModel(
        f'"{path.name}" {what}', "FLUX.1's transformer under Black Forest Labs' key names was expected", "copy it again"
    )
