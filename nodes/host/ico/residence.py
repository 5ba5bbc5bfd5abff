"""Where, and in what precision, the host's networks compute while they are trained on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ....dci_core.errors import BadModel
from ....dci_core.ico.memory import Weights
from ....dci_core.ico.precision import DTYPES, Precision, choose_precision

log = logging.getLogger(__name__)
ALL_BYTES = 1e30  # more than any device has: the host then frees all that it may
LOADING_SHARE = 1.1  # of a model's size that the host frees before it loads one
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def chosen_precision(model: Any, asked: str) -> Precision:
    """The precision that the MODEL is trained in; `auto`: by what the host says of its device. Raises BadSettings."""
    from comfy.model_management import should_use_bf16, should_use_fp16

    device = model.load_device
    return choose_precision(
        asked, has_bf16=should_use_bf16(device), has_fp16=should_use_fp16(device, prioritize_performance=False)
    )


def computing_in(model: Any, precision: Precision) -> Any:
    """The MODEL, or a clone of it that computes in that precision by the host's own casting."""
    dtype = DTYPES[precision]
    if compute_dtype(model) == dtype:
        return model
    log.info("training computes in %s; the model is loaded in %s", precision, compute_dtype(model))
    clone = model.clone()
    clone.set_model_compute_dtype(dtype)
    return clone


def compute_dtype(model: Any) -> torch.dtype:
    """What a MODEL computes in as it was loaded, patches included."""
    cast = model.get_model_object("manual_cast_dtype")
    found: torch.dtype = model.model.get_dtype() if cast is None else cast
    return found


def whole(model: Any, clip: Any) -> tuple[Any, Any]:
    """(MODEL, CLIP) whose weights can stay on their devices: copies of their own where the host pages weights in and
    out, which it overwrites before a backward pass reads them. Raises BadModel.
    """
    try:
        if pages(model):
            model = model.clone(disable_dynamic=True)
        if pages(clip.patcher):
            clip = clip.clone(disable_dynamic=True)
            clip.cond_stage_model = clip.patcher.model
    except RuntimeError as error:
        raise BadModel(
            f"the host pages this model's weights and cannot load them whole ({error})",
            "a model that its loader can load again is expected for training",
            "start ComfyUI with --disable-dynamic-vram, or load the checkpoint with Load Checkpoint",
        ) from error
    return model, clip


def pages(patcher: Any) -> bool:
    """Whether the host keeps only those weights on the device that it needs at once (dynamic VRAM)."""
    return bool(getattr(patcher, "is_dynamic", bool)())


@contextmanager
def on_cpu(clip: Any) -> Iterator[Any]:
    """A CLIP of the same weights that is loaded on the CPU; afterwards nothing of it is loaded.

    The host skips weights that count as loaded, wherever a clone put them, so the other one is unloaded each time.
    """
    apart = clip.clone()
    apart.patcher.load_device = torch.device("cpu")
    unload(clip.patcher)
    try:
        yield apart
    finally:
        unload(apart.patcher)


def unload(patcher: Any) -> None:
    """Takes the patcher's weights off their device, by whichever clone they were loaded."""
    from comfy import model_management

    every = model_management.current_loaded_models
    mine = [held for held in every if held.model is not None and held.model.is_clone(patcher)]
    every[:] = [held for held in every if not any(held is other for other in mine)]
    for held in mine:
        held.model_unload()


def weight_bytes(model: Any, clip: Any, precision: Precision) -> Weights:
    """What both take on the MODEL's device as they were loaded; a CLIP that stays on another takes nothing there."""
    sizes = [sum(w.nbytes for w in part.parameters()) for part in (model.model.diffusion_model, clip.patcher.model)]
    is_beside = clip.patcher.load_device.type == model.load_device.type
    return Weights(sizes[0], sizes[1] if is_beside else 0, model.model.get_dtype() != DTYPES[precision])


def load_whole(model: Any, clip: Any) -> None:
    """Puts both on their devices with all of their weights; raises BadModel where the host leaves some elsewhere."""
    from comfy.model_management import load_models_gpu

    load_models_gpu([model, clip.patcher], force_full_load=True)
    for name, patcher in (("MODEL", model), ("CLIP", clip.patcher)):
        elsewhere = strays(patcher.model, patcher.load_device)
        if elsewhere:
            total = sum(weight.nbytes for weight in patcher.model.parameters())
            raise BadModel(
                f"{elsewhere / 2**20:.0f} of {total / 2**20:.0f} MiB of the {name} are not on {patcher.load_device}",
                "the whole of it is expected there for training",
                "start ComfyUI without --novram, close other programs, or load a smaller model",
            )


def fits_beside(vae: Any, latents: Tensor) -> bool:
    """Whether the host decodes these latents without pushing out what is loaded; on a CPU it never does."""
    from comfy.model_management import extra_reserved_memory, get_free_memory, minimum_inference_memory

    device = vae.patcher.load_device
    if device.type == "cpu":
        return True
    decoding = vae.memory_used_decode(latents.shape, vae.vae_dtype) + extra_reserved_memory()
    needed = LOADING_SHARE * vae.patcher.model_size() + max(minimum_inference_memory(), decoding)
    return bool(get_free_memory(device) > needed)


def leave_device(vae: Any) -> None:
    """Takes the VAE off its device, and nothing else: a training step needs the room again."""
    from comfy import model_management

    device = vae.patcher.load_device
    if device.type != "cpu":
        others = [one for one in model_management.current_loaded_models if one.model is not vae.patcher]
        model_management.free_memory(ALL_BYTES, device, keep_loaded=others)


def strays(network: nn.Module, device: torch.device) -> int:
    """Bytes of the network's weights that are on another kind of device."""
    return sum(weight.nbytes for weight in network.parameters() if weight.device.type != device.type)
