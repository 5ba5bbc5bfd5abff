"""CLIP vision models of the host: hidden states of every layer, of pictures whose subject may be masked out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ....dci_core.dynaip.pooling_head import ADD_HEAD
from ....dci_core.errors import BadModel, BadPicture

ROOM = 0.05  # of a subject's box, left around it on each side
LOADS_NO_HEAD = "the vision model is a SigLIP, which the host loads without its pooling head"
ABSENT = {  # what a vision model lacks: what came, what is expected, what to do
    "pooled": (
        LOADS_NO_HEAD,
        "a pooled vector is expected by the adapter",
        f"put the head into the adapter: {ADD_HEAD}",
    ),
    "projected": (
        LOADS_NO_HEAD,
        "a projected vector is expected by the adapter",
        "load the CLIP vision model that the adapter was made with",
    ),
    "tokens": (
        "the vision model is a CLIP",
        "a SigLIP is expected, whose last states the adapter pools by a head of its own",
        "load the SigLIP that the head was taken from",
    ),
}


@dataclass(frozen=True)
class Sight:
    """What a vision model sees in pictures.

    states     [b t c] each: the patch embedding, then every layer's output
    pooled     [b c], the class token's last state, normed; None for SigLIP, whose pooling head the host does not load
    projected  [b p], the same projected to the space of texts; None for SigLIP
    tokens     [b t c], the last layer's output, normed, for a pooling head; None for CLIP, which has none
    """

    states: tuple[Tensor, ...]
    pooled: Tensor | None
    projected: Tensor | None
    tokens: Tensor | None

    def outputs(self, kind: str) -> tuple[Tensor, ...]:
        """What an adapter that reads one of `VISION_OUTPUTS` is given; raises BadModel."""
        if kind == "states":
            return self.states
        found = {"pooled": self.pooled, "projected": self.projected, "tokens": self.tokens}[kind]
        if found is None:
            raise BadModel(*ABSENT[kind])
        return (found,)


def look(vision: Any, pictures: Tensor) -> Sight:
    """What a CLIP_VISION sees in pictures [b h w 3], preprocessed by the host; raises BadModel."""
    from comfy.clip_vision import clip_preprocess
    from comfy.model_management import load_model_gpu

    tower = tower_of(vision)
    load_model_gpu(vision.patcher)
    at = {"size": vision.image_size, "mean": vision.image_mean, "std": vision.image_std}
    pixels = clip_preprocess(pictures.to(vision.load_device), **at).float()
    last, layers, projected, _ = vision.model(pixel_values=pixels, intermediate_output="all")
    first = tower.pre_layrnorm(tower.embeddings(pixels))
    if tower.output_layernorm:
        return Sight((first, *layers.unbind(1)), None, None, last)
    return Sight((first, *layers.unbind(1)), tower.post_layernorm(last[:, 0]), projected, None)


def tower_of(vision: Any) -> Any:
    """The transformer in a CLIP_VISION; raises BadModel for other image encoders."""
    tower = getattr(getattr(vision, "model", None), "vision_model", None)
    if tower is None or not hasattr(tower, "encoder"):
        raise BadModel(
            f"the vision model is a {type(getattr(vision, 'model', vision)).__name__}",
            "a CLIP or SigLIP vision model is expected, since its layers are read",
            "connect the one that the adapter was trained with",
        )
    if vision.image_size < 1:
        raise BadModel(
            "the vision model takes pictures of any shape (SigLIP 2 NaFlex)",
            "one that takes squares of one size is expected",
            "connect the one that the adapter was trained with",
        )
    return tower


def sizes_of(vision: Any, kind: str = "states") -> tuple[int, int]:
    """(width of its output of a kind in `VISION_OUTPUTS`, number of layers) of a CLIP_VISION; raises BadModel."""
    tower = tower_of(vision)
    projection = getattr(vision.model.visual_projection, "weight", None)
    own = int(tower.post_layernorm.normalized_shape[0])
    is_projected = kind == "projected" and projection is not None
    return int(projection.shape[0]) if is_projected else own, len(tower.encoder.layers)


def cut_out(pictures: Tensor, masks: Tensor, grey: tuple[float, ...]) -> Tensor:
    """Each picture's subject alone: outside of its mask the vision model's mean colour, cut to a square around it.

    pictures  [b h w c]
    masks     [h w] or [1-or-b h w] in 0..1 at any size, white where the subject is
    grey      the colour that the vision model's preprocessing turns into zero
    returns   [b s s 3]; raises BadPicture for a mask that shows nothing, or masks of another number than pictures
    """
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.shape[0] not in (1, pictures.shape[0]):
        raise BadPicture(
            f"{masks.shape[0]} subject masks came for {pictures.shape[0]} pictures",
            "one mask, or one for each picture, is expected",
            "connect one mask",
        )
    masks = interpolate(masks[:, None].float(), size=pictures.shape[1:3], mode="bilinear")
    masks = masks.expand(pictures.shape[0], -1, -1, -1).movedim(1, -1)
    colour = torch.tensor(grey, dtype=pictures.dtype, device=pictures.device)
    own = masks.to(pictures).clamp(0, 1)
    alone = pictures[..., :3] * own + colour * (1 - own)
    cut = [cut_square(picture, mask[..., 0], colour) for picture, mask in zip(alone, masks, strict=True)]
    side = max(picture.shape[0] for picture in cut)
    grown = [interpolate(each.movedim(-1, 0)[None], size=(side, side), mode="bicubic", antialias=True) for each in cut]
    return torch.cat(grown).movedim(1, -1).clamp(0, 1)


def cut_square(picture: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    """The square around what a mask [h w] shows of a picture [h w 3], filled up with a colour beyond its edges."""
    shown = (mask > 0.5).nonzero()
    if not len(shown):
        raise BadPicture(
            "the subject mask shows nothing", "a mask that is white where the subject is was expected", "invert it"
        )
    (top, left), (bottom, right) = shown.amin(0).tolist(), (shown.amax(0) + 1).tolist()
    side = math.ceil(max(bottom - top, right - left) * (1 + 2 * ROOM))
    top, left = (top + bottom - side) // 2, (left + right - side) // 2
    height, width = picture.shape[:2]
    around = (-min(left, 0), max(left + side - width, 0), -min(top, 0), max(top + side - height, 0))
    wide = pad((picture - colour).movedim(-1, 0), around).movedim(0, -1) + colour
    top, left = max(top, 0), max(left, 0)
    return wide[top : top + side, left : left + side]
