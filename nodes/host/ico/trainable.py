"""Which MODEL, CLIP and VAE a concept can be trained with, told before any work is done."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import BadModel
from ....dci_core.families.family import Family
from ....dci_core.noise.process import FLOW
from ..concept.apply import check_encoders
from ..concept.identity import kv_weights
from ..families.sampling import IMAGE_TO_IMAGE, kind_of

SDXL_VECTOR = 2816  # pooled text and six sizes; other families read no vector beside the text
PLAIN = (torch.float32, torch.float16, torch.bfloat16)
EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
HOOKS = ("patches", "patches_replace", "wrappers", "optimized_attention_override")  # names in the host's options
NOT_TRAINED = ("x0", FLOW, "cosmos", IMAGE_TO_IMAGE)


def check_present(model: Any, clip: Any, vae: Any) -> None:
    """Raises BadModel for a part that a checkpoint did not have: the loader gives None for it."""
    for name, part in (("MODEL", model), ("CLIP", clip), ("VAE", vae)):
        if part is None or (name == "VAE" and getattr(part, "first_stage_model", part) is None):
            raise BadModel(
                f"the checkpoint has no {name}",
                "MODEL, CLIP and VAE of a text-to-image model are expected for training",
                "load it from another file; a checkpoint without CLIP may be one that varies images, and cannot learn",
            )


def check_trainable(model: Any, clip: Any, vae: Any, family: Family) -> None:
    """Nothing, or BadModel for the first part that cannot be trained with."""
    if not family.is_trained:
        raise BadModel(
            f"the model is {family.name}", "one that concepts can be trained on is expected", "train on another base"
        )
    check_encoders(clip, family)
    check_sampling(model, family)
    check_reads_text(model, family)
    check_weights(model, family)
    check_codec(vae, family)


def check_sampling(model: Any, family: Family) -> None:
    """Raises BadModel for a U-Net that was not trained to find noise or v: its loss would be another one."""
    kind = kind_of(model.get_model_object("model_sampling"))
    if kind in NOT_TRAINED and not (kind == FLOW and family.is_flow):
        raise BadModel(
            f"the model's sampling is {kind}",
            "a U-Net that predicts eps or v is expected for training (EDM too)",
            "take the sampling node off the model that is trained; the concept can be loaded beside such a node",
        )


def cautions_of(model: Any) -> list[str]:
    """What to know of a MODEL that can be trained on, but not well."""
    told = []
    if kind_of(model.get_model_object("model_sampling")) == "lcm":
        told.append(
            "it was trained under lcm sampling, which leaves 50 noise levels of 1000; train on the model without the "
            "sampling node (and without the LCM LoRA), and draw with them"
        )
    if has_hooks(model):
        told.append(
            "what other nodes hooked into MODEL (a subject of DynaIP, DCI, patches of attention) acts when pictures "
            "are drawn; the training reads the model without it"
        )
    return told


def has_hooks(model: Any) -> bool:
    """Whether nodes that do not change weights stand before the training."""
    options = model.model_options.get("transformer_options", {})
    hooks = [*getattr(model, "wrappers", {}).values(), *(options.get(name) for name in HOOKS)]
    return any(hooks) or model.model_options.get("model_function_wrapper") is not None


def check_reads_text(model: Any, family: Family) -> None:
    """Raises BadModel for a U-Net that reads more than a noisy picture and text: it needs what training has not.

    A flow of its family's sizes reads no more.
    """
    if family.is_flow:
        return
    network, plain = model.model.diffusion_model, family.latent_channels
    reads, gives, vector = network.in_channels, network.out_channels, model.model.adm_channels
    if reads != plain or gives != plain:
        kind = "an inpainting model's" if reads == 2 * plain + 1 else "no text-to-image model's"
        raise BadModel(
            f"the U-Net reads {reads} channels and gives {gives}, which is {kind}",
            f"{plain} and {plain} are expected for training",
            "train on the ordinary checkpoint of this family; its concept can be loaded on this one too",
        )
    wanted = SDXL_VECTOR if len(family.encoders) > 1 else 0
    if vector != wanted:
        raise BadModel(
            f"the U-Net reads a vector of {vector} numbers beside the text (unCLIP and others read an image there)",
            f"{wanted or 'none'} is expected of a text-to-image model like {family.name}",
            "train on the ordinary checkpoint of this family",
        )


def check_weights(model: Any, family: Family) -> None:
    """Raises BadModel for weights that no gradient is known to pass through: packed in another format, or of eight bits
    with scales beside them; plain ones of eight bits are cast for each layer of a transformer.
    """
    allowed = {*PLAIN, *(EIGHT_BITS if family.is_flow else ())}
    kinds = {format_of(weight) for weight in kv_weights(model, family)} | {model.model.get_dtype()}
    found = [str(kind).removeprefix("torch.") for kind in sorted(kinds - allowed, key=str)]
    if not found and kinds.intersection(EIGHT_BITS) and has_scales(model.model.diffusion_model):
        found = ["fp8 with scales"]
    for kind in found:
        raise BadModel(
            f"the model's weights are {kind}",
            f"{'fp32, fp16, bf16 or plain fp8' if family.is_flow else 'fp32, fp16 or bf16'} is expected for training",
            "load the checkpoint in one of these; sampling works with this one",
        )


def has_scales(network: torch.nn.Module) -> bool:
    """Whether numbers beside a network's weights say how large they are."""
    return any(getattr(module, "scale_weight", None) is not None for module in network.modules())


def format_of(weight: Tensor) -> Any:
    """A weight's type, or the name of the format that it is packed in."""
    return weight.dtype if type(weight) in (Tensor, torch.nn.Parameter) else type(weight).__name__


def check_codec(vae: Any, family: Family) -> None:
    """Raises BadModel for a VAE whose latents are of another width or dimension, as far as it says so."""
    channels, dimensions = getattr(vae, "latent_channels", None), getattr(vae, "latent_dim", None)
    if channels not in (None, family.latent_channels) or dimensions not in (None, dimensions_of(family)):
        raise wrong_codec(f"has latents of {channels} channels in {dimensions} dimensions", family)


def check_latents(latents: Tensor, size: int, family: Family) -> None:
    """Raises BadModel where a VAE gave latents that the U-Net cannot read, whatever it said of itself."""
    side = size // family.latent_scale
    frames = (1,) if family.has_time else ()
    if tuple(latents.shape[1:]) != (family.latent_channels, *frames, side, side):
        shape = " x ".join(map(str, latents.shape[1:]))
        raise wrong_codec(f"gives {shape} numbers for a picture of {size} px", family)


def dimensions_of(family: Family) -> int:
    """Dimensions of a picture's latents."""
    return 3 if family.has_time else 2


def wrong_codec(what: str, family: Family) -> BadModel:
    """What is said of a VAE of another kind of model."""
    return BadModel(
        f"the VAE {what}",
        f"{family.latent_channels} channels in {dimensions_of(family)} dimensions, a cell for {family.latent_scale} "
        f"px, are expected by a {family.name} model",
        "connect the VAE of the same checkpoint",
    )
