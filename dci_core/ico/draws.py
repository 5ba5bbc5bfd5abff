"""What chance decides in one pass of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import TrainingData
from .settings import IcoSettings


@dataclass(frozen=True)
class Draw:
    """One pass's rows.

    images, flips, captions  [rows], indices into latents [image flip] and into the image's captions
    timesteps                [rows]
    noise                    [rows c h w]
    """

    images: Tensor
    flips: Tensor
    captions: Tensor
    timesteps: Tensor
    noise: Tensor

    @property
    def places(self) -> list[tuple[int, int]]:
        """Per row (image, caption)."""
        return list(zip(self.images.tolist(), self.captions.tolist(), strict=True))

    def pick(self, pictures: Tensor) -> Tensor:
        """The drawn pictures in their drawn flips, [image flip ...] -> [rows ...].

        On the CPU they lie in memory in the order that they came in, since a network's last bits hang on it; on an
        accelerator they are taken one by one, since indices would have to wait for a copy.
        """
        if pictures.device.type == "cpu":
            return pictures[self.images, self.flips]
        places = zip(self.images.tolist(), self.flips.tolist(), strict=True)
        return torch.stack([pictures[place] for place in places])


def draw_rows(data: TrainingData, choices: Sequence[int], settings: IcoSettings, generator: torch.Generator) -> Draw:
    """Rows of reference pictures; choices holds each picture's number of captions."""
    draw = _draw(data.latents, settings, generator)
    counts = torch.tensor(list(choices))[draw.images]
    captions = (torch.rand(settings.batch, generator=generator) * counts).long()
    return Draw(draw.images, draw.flips, captions, draw.timesteps, draw.noise)


def draw_class_rows(latents: Tensor, settings: IcoSettings, generator: torch.Generator) -> Draw:
    """Rows of class pictures, as many as of the concept's."""
    return _draw(latents, settings, generator)


def _draw(latents: Tensor, settings: IcoSettings, generator: torch.Generator) -> Draw:
    rows, (num, num_flips) = settings.batch, latents.shape[:2]
    images = torch.randint(num, (rows,), generator=generator)
    flipped = torch.rand(rows, generator=generator) < settings.flip_probability
    first, last = settings.timestep_range
    timesteps = torch.randint(first, last + 1, (rows,), generator=generator)
    noise = torch.randn(rows, *latents.shape[2:], generator=generator)
    return Draw(images, flipped.long() * (num_flips - 1), torch.zeros(rows, dtype=torch.long), timesteps, noise)
