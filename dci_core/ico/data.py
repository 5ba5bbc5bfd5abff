"""Everything of the pictures that training reads, encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import BadModel, BadPicture
from ..fingerprint import short_hash, tensor_bytes
from ..pictures.reference import Picture

EncodePictures = Callable[[Tensor], Tensor]
"""Pixels [b 3 h w] in 0..1 -> latents [b c h w] as the model reads them (the mean, scaled)."""


@dataclass(frozen=True)
class TrainingData:
    """Latents of the reference pictures, and of class pictures where the prior wants them.

    latents         [num_images flips c h w]; flips: as it is, and mirrored where there are two
    masks           [num_images flips 1 h w] in 0..1, or None
    captions        one per picture with `{concept}` in it, or None where it has none
    class_latents   [num_class flips c h w] or None
    class_captions  one plain caption per class picture, or None for the noun alone
    pixels_hash     of the pictures, since the codec need not give the same bits twice on a GPU; "": from the latents
    """

    latents: Tensor
    masks: Tensor | None = None
    captions: Sequence[str | None] = ()
    class_latents: Tensor | None = None
    class_captions: Sequence[str | None] = ()
    pixels_hash: str = ""

    def fingerprint(self) -> str:
        """Changes when a picture, a mask, a caption or their order does; tells nothing else about them."""
        tensors = () if self.pixels_hash else (self.latents, self.masks, self.class_latents)
        words = f"{self.pixels_hash} {list(self.captions)} {list(self.class_captions)}"
        return _hash(tensors, words)


def encode_pictures(
    pictures: Sequence[Picture],
    encode: EncodePictures,
    *,
    class_pictures: Sequence[Picture] = (),
    class_captions: Sequence[str | None] = (),
    flips: bool = True,
) -> TrainingData:
    """Training data from pictures; each picture and its mirror image go through the codec once.

    Raises BadPicture where no picture came, BadModel where the codec gives what is no number.
    """
    if not pictures:
        raise BadPicture("no reference picture came", "at least one was expected", "add pictures of the concept")
    latents = _encode(pictures, encode, flips)
    return TrainingData(
        latents=latents,
        masks=_masks(pictures, latents, flips),
        captions=tuple(picture.caption for picture in pictures),
        class_latents=_encode(class_pictures, encode, flips) if class_pictures else None,
        class_captions=tuple(class_captions),
        pixels_hash=_hash([x for p in (*pictures, *class_pictures) for x in (p.pixels, p.mask)]),
    )


def _hash(tensors: Sequence[Tensor | None], words: str = "") -> str:
    return short_hash([words.encode(), *(b"-" if x is None else tensor_bytes(x, torch.float32) for x in tensors)])


def _encode(pictures: Sequence[Picture], encode: EncodePictures, flips: bool) -> Tensor:
    rows = []
    with torch.no_grad():
        for picture in pictures:
            rows.append(encode(both(picture.pixels, flips)).float())
            if not bool(rows[-1].isfinite().all()):
                raise BadModel(
                    f'the VAE gave NaN or infinity for "{picture.name}"',
                    "finite latents were expected",
                    "run the VAE in fp32 or bf16, or use another one",
                )
    return torch.stack(rows)  # [num flips c h w]


def _masks(pictures: Sequence[Picture], latents: Tensor, flips: bool) -> Tensor | None:
    if all(picture.mask is None for picture in pictures):
        return None
    whole = torch.ones(1, *pictures[0].pixels.shape[-2:])
    rows = torch.stack([both(whole if p.mask is None else p.mask, flips) for p in pictures])
    small = interpolate(rearrange(rows, "n f 1 h w -> (n f) 1 h w"), size=latents.shape[-2:], mode="area")
    return rearrange(small, "(n f) 1 h w -> n f 1 h w", n=len(pictures)).to(latents.device)


def both(pixels: Tensor, flips: bool = True) -> Tensor:
    """[flips c h w]: the picture, and its mirror image where flips are asked."""
    return torch.stack([pixels, pixels.flip(-1)]) if flips else pixels[None]
