"""The tiny world in the host's own classes: its U-Net, its text encoder, and a VAE around its codec."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ....dci_core.errors import BadModel
from ....dci_core.tiny.codec import FACTOR, LATENT_CHANNELS, Codec
from ....dci_core.tiny.flow.model import FlowModel
from ....dci_core.tiny.model import TinyModel, load_tiny_world
from ....dci_core.tiny.text import TextParams
from ....dci_core.tiny.tokenizer import BEGIN, END, load_tokenizer
from ....dci_core.tiny.unet import UNetParams
from ....dci_core.tiny.world.concepts import CONCEPTS, HeldOut

World = TypeVar("World")
ENCODER = "clip_l"  # the name that SD 1.x's only text encoder has


def load_world() -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of the tiny world with its trained weights; raises BadModel."""
    world = shipped(load_tiny_world)
    model = host_model(world.model)
    give_previews(model, world.codec)
    return model, host_clip(world.model), host_vae(world.codec)


def shipped(load: Callable[[], World]) -> World:
    """What a loader of shipped weights gives; raises BadModel where a file is missing."""
    try:
        return load()
    except OSError as error:
        raise BadModel(
            f'the small world\'s "{Path(error.filename or "").name}" cannot be read',
            "the weights that ship with this pack are expected",
            "install the pack again",
        ) from error


def give_previews(model: Any, codec: Codec) -> None:
    """Lets the host show previews while it samples: colours as the best linear guess from the latent's channels."""
    pictures = rearrange(example_pictures(CONCEPTS[0], "varied"), "b h w c -> b c h w")
    latents = rearrange(codec.encode(pictures), "b c h w -> (b h w) c")
    colours = rearrange(avg_pool2d(pictures * 2 - 1, FACTOR), "b c h w -> (b h w) c")
    guess = torch.linalg.lstsq(torch.cat([latents, torch.ones(len(latents), 1)], dim=1), colours).solution
    form = model.model.latent_format
    form.latent_rgb_factors, form.latent_rgb_factors_bias = guess[:-1].tolist(), guess[-1].tolist()


def example_pictures(thing: HeldOut, kind: str) -> Tensor:
    """The reference pictures of one held-out thing, in "varied" places or all at "home", as an IMAGE [b h w 3]."""
    pictures = [np.asarray(each.picture.convert("RGB"), dtype=np.float32) / 255 for each in thing.references(kind)]
    return torch.from_numpy(np.stack(pictures))


def host_model(tiny: TinyModel) -> Any:
    """The tiny U-Net as the host's UNetModel inside a patcher."""
    from comfy import latent_formats, model_base, model_management, model_patcher, supported_models

    class TinyLatents(latent_formats.LatentFormat):  # type: ignore[misc, name-defined]
        latent_channels = LATENT_CHANNELS

    class TinyConfig(supported_models.SD15):  # type: ignore[misc, name-defined]
        unet_extra_config: dict[str, Any] = {}  # SD 1.5's own would win over the number of heads below
        latent_format = TinyLatents

    config = TinyConfig(unet_config(tiny.unet.params))
    config.set_inference_dtype(torch.float32, None)
    model = model_base.BaseModel(config, device=torch.device("cpu"))
    model.diffusion_model.load_state_dict(tiny.unet.state_dict(), strict=True)
    device, offload = model_management.get_torch_device(), model_management.unet_offload_device()
    return model_patcher.ModelPatcher(model.eval(), load_device=device, offload_device=offload)


def unet_config(params: UNetParams) -> dict[str, Any]:
    """The host's names for the sizes of the tiny U-Net."""
    levels = len(params.channel_mult)
    return {
        "image_size": 32,
        "in_channels": params.in_channels,
        "out_channels": params.in_channels,
        "model_channels": params.model_channels,
        "num_res_blocks": [1] * levels,
        "channel_mult": list(params.channel_mult),
        "transformer_depth": [1] * levels,
        "transformer_depth_output": [1] * (2 * levels),
        "transformer_depth_middle": 1,
        "context_dim": params.context_width,
        "num_heads": -1,
        "num_head_channels": params.head_width,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "use_temporal_attention": False,
        "adm_in_channels": None,
        "legacy": False,
    }


class TinyWords:
    """The tiny world's tokenizer with the face that the host expects of one."""

    def __init__(self) -> None:
        self.words = load_tokenizer()
        self.begin, self.end = self.words.token_to_id(BEGIN), self.words.token_to_id(END)

    @classmethod
    def from_pretrained(cls, path: str, **kwargs: Any) -> TinyWords:
        """The one that ships with the world, whatever the path."""
        return cls()

    def __call__(
        self, text: Any, *, add_special_tokens: bool = True, truncation: bool = False, max_length: int | None = None,
        **kwargs: Any,
    ) -> dict[str, list[Any]]:  # fmt: skip
        """Ids of one text, or of each of a list of texts as some prompt nodes ask."""
        rows = []
        for one in [text] if isinstance(text, str) else text:
            ids = self.words.encode(one).ids
            if truncation and max_length is not None:
                ids = ids[: max(0, max_length - 2 * add_special_tokens)]
            rows.append([self.begin, *ids, self.end] if add_special_tokens else ids)
        return {"input_ids": rows[0] if isinstance(text, str) else rows}

    def get_vocab(self) -> dict[str, int]:
        """Entry -> id."""
        return dict(self.words.get_vocab())

    def decode(self, ids: list[int], **kwargs: Any) -> str:
        """Text of ids."""
        return str(self.words.decode(ids))


def host_clip(tiny: TinyModel | FlowModel, slots: int | None = None) -> Any:
    """The tiny text encoder as the host's CLIP; with fewer slots a prompt has fewer rows, padding left out."""
    from comfy import sd, sd1_clip

    length = slots or tiny.text.params.length
    params = replace(tiny.text.params, length=length)
    words = TinyWords()
    chunks = partial(
        sd1_clip.SDTokenizer,
        tokenizer_class=TinyWords,
        embedding_size=params.width,
        embedding_key=ENCODER,
        max_length=length,
    )
    target = SimpleNamespace(
        params={},
        clip=partial(sd1_clip.SD1ClipModel, clip_model=partial(text_model, params, words.begin, words.end)),
        tokenizer=partial(sd1_clip.SD1Tokenizer, tokenizer=chunks),
    )
    clip = sd.CLIP(target)
    state = {f"text_model.{name}": value for name, value in tiny.text.state_dict().items()}
    state["text_projection.weight"] = torch.eye(params.width)
    positions = "text_model.embeddings.position_embedding.weight"
    state[positions] = state[positions][:length]
    clip.cond_stage_model.clip_l.transformer.load_state_dict(state, strict=True)
    return clip


def text_model(params: TextParams, begin: int, end: int, **kwargs: Any) -> Any:
    """The host's SDClipModel in the tiny encoder's sizes."""
    from comfy import clip_model, sd1_clip

    class TinyTextModel(clip_model.CLIPTextModel):  # type: ignore[misc, name-defined]
        """The host's text model always has CLIP's own table of words."""

        def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
            super().__init__(config, dtype, device, operations)
            self.set_input_embeddings(operations.Embedding(params.entries, params.width, dtype=dtype, device=device))

    config = {
        "num_hidden_layers": params.layers,
        "hidden_size": params.width,
        "num_attention_heads": params.heads,
        "intermediate_size": 4 * params.width,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": params.length,
        "eos_token_id": end,
    }
    return sd1_clip.SDClipModel(
        textmodel_json_config=json.loads(json.dumps(config)),
        model_class=TinyTextModel,
        special_tokens={"start": begin, "end": end, "pad": end},
        return_projected_pooled=False,
        **kwargs,
    )


class HostCodec(nn.Module):
    """The codec with the host's value range, -1..1."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents of pictures [b 3 h w] in -1..1."""
        return self.codec.encode(pictures / 2 + 0.5)

    def decode(self, latents: Tensor, **kwargs: Any) -> Tensor:
        """Pictures in -1..1."""
        return self.codec.decode(latents) * 2 - 1


def host_vae(codec: Codec) -> Any:
    """The codec as the host's VAE."""
    from comfy import model_management, model_patcher, sd

    with quiet():  # an empty one, filled below
        vae = sd.VAE(sd={})
    vae.first_stage_model = HostCodec(codec).eval()
    vae.latent_channels = LATENT_CHANNELS
    vae.memory_used_encode = lambda shape, dtype: 4000 * shape[2] * shape[3]
    vae.memory_used_decode = lambda shape, dtype: 4000 * 64 * shape[2] * shape[3]
    vae.device, vae.vae_dtype = model_management.vae_device(), torch.float32
    vae.output_device = model_management.intermediate_device()
    offload = model_management.vae_offload_device()
    vae.patcher = model_patcher.ModelPatcher(vae.first_stage_model, load_device=vae.device, offload_device=offload)
    return vae


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings in the host's log for a moment."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
