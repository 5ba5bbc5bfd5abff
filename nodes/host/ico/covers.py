"""The picture that a finished concept is shown by: drawn from noise, so that nothing of a reference is in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import PackError
from ....dci_core.ico.data import TrainingData
from ....dci_core.ico.samples import draw_sample
from ....dci_core.ico.state import TrainState
from ....dci_core.pictures.thumbnails import image_of, small_jpeg
from ..page.live import note
from .model import HostModel
from .residence import fits_beside, leave_device


def cover_latent(host: HostModel, data: TrainingData, state: TrainState) -> Tensor | None:
    """The latent [1 c h w] of one picture of the concept; None, with a warning, where none can be drawn."""
    try:
        with torch.inference_mode(False):
            return draw_sample(host, state, shape=data.latents.shape[2:], sigmas=host.sigmas(), on_step=stop_if_asked)
    except (PackError, RuntimeError) as error:  # out of memory too; what was learned counts for more
        note(f"the concept gets no picture: {error}")
        return None


def cover_picture(model: Any, vae: Any, latent: Tensor) -> bytes | None:
    """A small JPEG file of the latent, by the VAE; None, with a warning, where it cannot be decoded."""
    try:
        return small_jpeg(image_of(decoded(model, vae, latent)[0]))
    except RuntimeError as error:
        note(f"the concept gets no picture: {error}")
        return None


def decoded(model: Any, vae: Any, latents: Tensor) -> Tensor:
    """Pictures [b h w 3] of latents in the model's own scale; loading the VAE may push the model out."""
    pictures: Tensor = vae.decode(model.model.process_latent_out(framed(model, latents).float()))
    return pictures.flatten(0, -4)[..., :3].cpu()


def framed(model: Any, latents: Tensor) -> Tensor:
    """Latents [b c h w] as the model's VAE takes them: with one frame where it knows frames."""
    dimensions = getattr(model.model.latent_format, "latent_dimensions", 2)
    return latents[:, :, None] if dimensions > latents.ndim - 2 else latents


def decoded_beside(model: Any, vae: Any, latents: Tensor) -> Tensor | None:
    """The same in the middle of a training; None where the VAE would push out what is trained. It leaves the device."""
    if not fits_beside(vae, framed(model, latents)):
        return None
    try:
        with torch.no_grad():
            return decoded(model, vae, latents)
    finally:
        leave_device(vae)


def stop_if_asked(step: Any) -> None:
    """Raises the host's own exception where the user has cancelled."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    throw_exception_if_processing_interrupted()
