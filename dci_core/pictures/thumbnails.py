"""Small pictures that a file's metadata or a message can carry."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COVER_PX = 256
QUALITY = 85


def small_jpeg(picture: Image.Image, most_px: int = COVER_PX) -> bytes:
    """A JPEG file of the picture, its longer side at most so many pixels."""
    small = picture.convert("RGB")
    small.thumbnail((most_px, most_px))
    held = io.BytesIO()
    small.save(held, "JPEG", quality=QUALITY)
    return held.getvalue()


def pixels_of(image: Image.Image) -> Tensor:
    """A picture of Pillow's as [h w 3], or [h w] for a grey one, in 0..1."""
    return torch.from_numpy(np.array(image)).float() / 255


def image_of(pixels: Tensor) -> Image.Image:
    """A picture [h w 3] or [h w] in 0..1 as Pillow has it."""
    return Image.fromarray((pixels.detach().float().cpu().clamp(0, 1) * 255).round().numpy().astype(np.uint8))
