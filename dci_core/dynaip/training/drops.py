"""What chance decides in a training row: its time, its noise, what it reads, and which condition it does without."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...ico.state import generator_for
from .settings import AdapterSettings


@dataclass(frozen=True)
class Chances:
    """Chance of one row; it depends on the row's number and the seed alone, not on who draws it or when.

    uniform     in 0..1, from which the base makes the time
    noise       [c h w]
    reads       whether the row reads its reference
    has_words   whether it keeps its caption
    reads_own   whether the reference is the very picture that it draws
    """

    uniform: float
    noise: Tensor
    reads: bool
    has_words: bool
    reads_own: bool


def draw_chances(place: int, shape: tuple[int, ...], settings: AdapterSettings) -> Chances:
    """The chance of row `place` (`AdapterSettings.places`) with latents of that shape.

    One number decides about the drops: image alone, text alone, both, or none. Source: dynaip.md section 6,
    IP-Adapter's recipe; a dropped image means that the row does not read, as a negative row at inference.
    """
    generator = generator_for(settings.seed, "row", place)
    uniform, which = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    first = settings.drop_image
    second = first + settings.drop_text
    third = second + settings.drop_both
    without_image = which < first or second <= which < third
    without_words = first <= which < third
    noise = torch.randn(shape, generator=generator)
    reads_own = float(torch.rand((), generator=generator, dtype=torch.float64)) < settings.same_picture
    return Chances(uniform, noise, not without_image, not without_words, reads_own)
