"""A SigLIP CLIP_VISION and an InstantX adapter that carries its pooling head; transformers' own class is the oracle."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from check_flow_reading import applied, drawn, flow_worlds, pooled_adapter
from check_vision import refused, small_vision
from lab import PACK, distance
from safetensors.torch import load_file, save_file
from torch import Tensor

SIZE, WIDTH = 32, 128
CONFIG = {
    "hidden_act": "gelu_pytorch_tanh", "hidden_size": WIDTH, "intermediate_size": 200, "num_hidden_layers": 3,
    "num_attention_heads": 16, "num_channels": 3, "image_size": SIZE, "patch_size": 8,
}  # fmt: skip
HALF = [0.5, 0.5, 0.5]
AGREES = 5e-6  # measured 6e-7: the host's LayerNorm has an epsilon of 1e-5, SigLIP 1e-6; 1e-5 in the head moves it 3e-5


@cache
def public() -> Any:
    """transformers' SigLIP vision model with random weights, as half precision holds them."""
    import transformers

    with torch.inference_mode(False), torch.no_grad():
        model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**CONFIG)).eval()
        source = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
            mean = float("norm" in name and name.endswith("weight"))
            parameter.copy_((mean + torch.randn(parameter.shape, generator=source) * size).half())
    return model


def write_siglip(path: Path) -> None:
    """A vision model's file as users have it: the tower and its head under one prefix, in half precision."""
    own = {key.removeprefix("vision_model."): x.half() for key, x in public().state_dict().items()}
    save_file({f"vision_model.{key}": x.contiguous() for key, x in own.items()}, path)


@cache
def siglip() -> Any:
    """The host's CLIP_VISION of that file, loaded as the host loads one: keys that it has no place for are dropped."""
    from comfy.clip_vision import ClipVisionModel

    about = {**CONFIG, "model_type": "siglip_vision_model", "image_mean": HALF, "image_std": HALF}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        config, weights = Path(folder) / "config.json", Path(folder) / "siglip.safetensors"
        config.write_text(json.dumps(about), encoding="utf-8")
        write_siglip(weights)
        vision = ClipVisionModel(str(config))
        missing, dropped = vision.load_sd({key: x.clone() for key, x in load_file(weights).items()})
    assert not missing and len(dropped) == 11 and all(".head." in key for key in dropped), (missing, dropped)
    return vision


@cache
def adapter_with_head() -> Any:
    """A `HostAdapter` of InstantX's form, written by its key names and converted with that file's head."""
    convert, ancestors = PACK["dci_core.dynaip.convert"], PACK["dci_core.dynaip.ancestors"]
    family = PACK["dci_core.families.mmdit"].find_mmdit("tiny_flow")
    numbers = {f"blocks.{block.stream}_{block.index}": i for i, block in enumerate(family.block_ids)}
    tensors = {}
    for key, x in pooled_adapter("attention", "pooled").core.state_dict().items():
        block, _, part = key.partition(".image.")
        own = f"ip_adapter.{numbers[block]}.{part.replace('.', '_ip.')}" if part else f"image_proj.{key}"
        tensors[own.replace("project.", "proj.")] = x.clone()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        plain, vision, whole = (Path(folder) / f"{name}.safetensors" for name in ("plain", "vision", "whole"))
        save_file(tensors, plain)
        write_siglip(vision)
        convert.convert_adapter(plain, whole, family, vision=vision)
        core = ancestors.read_ancestor({key: x.clone() for key, x in load_file(whole).items()}, family)
    return PACK["nodes.host.dynaip.adapters"].HostAdapter("instantx", core)


def pictures(seed: int = 3) -> Tensor:
    """Two pictures of the size that the vision model takes, in 8 bits, so that preprocessing is one line."""
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, SIZE, SIZE, 3), generator=source) / 255


def seen_publicly(shown: Tensor) -> Any:
    return public()(pixel_values=(shown.movedim(-1, 1) - 0.5) / 0.5)


def given(images: Tensor) -> Any:
    return PACK["nodes.host.dynaip.applying"].Pictures(images, None, 0.0, "")


def test_the_last_states_and_the_pooled_vector_are_the_public_classes() -> None:
    seen, expected = PACK["nodes.host.dynaip.vision"].look(siglip(), pictures()), seen_publicly(pictures())
    assert (seen.pooled, seen.projected) == (None, None) and seen.tokens.shape == (2, 16, WIDTH)
    assert distance(seen.tokens, expected.last_hidden_state) < AGREES
    assert distance(adapter_with_head().core.head(seen.tokens), expected.pooler_output) < AGREES


def test_an_adapter_with_a_head_fuses_the_public_classes_vector() -> None:
    fused = PACK["nodes.host.dynaip.applying"].fuse(siglip(), adapter_with_head(), given(pictures()))
    expected = pooled_adapter("attention", "pooled").core.fuse([seen_publicly(pictures()).pooler_output])
    assert distance(fused.tokens, expected.tokens) < AGREES


def test_the_drawn_picture_follows_the_pictures_that_a_siglip_sees() -> None:
    model = flow_worlds()[2]
    first, other = (
        applied(adapter=adapter_with_head(), clip_vision=siglip(), images=pictures(seed)) for seed in (3, 4)
    )
    assert first[2] == "this adapter reads one pooled vector: no granularity"
    assert distance(drawn(first[0]), drawn(model)) > 1e-3
    assert distance(drawn(first[0]), drawn(other[0])) > 1e-3


def test_the_facts_name_what_is_read_and_a_missing_head() -> None:
    whole, plain = adapter_with_head().facts(), pooled_adapter("attention", "pooled").facts()
    assert whole.endswith("reads the last SigLIP states of a vision model 128 wide")
    assert "reads the pooled vector" in plain and "adapter-convert --in ADAPTER --vision SIGLIP" in plain


def test_vision_models_that_do_not_fit_get_one_sentence() -> None:
    def seen_by(vision: Any, adapter: Any) -> Any:
        return lambda: applied(adapter=adapter, clip_vision=vision)

    whole, flexible = adapter_with_head(), copy.copy(siglip())
    flexible.image_size = -1
    refused("the vision model is a CLIP; a SigLIP is expected", seen_by(flow_worlds()[4], whole))
    refused("one 128 wide (last SigLIP states) was expected", seen_by(small_siglip(64), whole))
    refused("adapter-convert --in ADAPTER --vision SIGLIP", seen_by(siglip(), pooled_adapter("attention", "pooled")))
    refused("load the CLIP vision model", seen_by(siglip(), pooled_adapter("stream", "projected")))
    refused("NaFlex", seen_by(flexible, whole))


def small_siglip(width: int) -> Any:
    return small_vision(model_type="siglip_vision_model", hidden_size=width)
