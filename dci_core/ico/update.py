"""From gradients to the next weights: lengths read in one wait, bad steps left out, the loss's scale in fp16."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import TrainingDiverged
from .settings import rate_at
from .state import TrainState

log = logging.getLogger(__name__)
MOST_BAD_DRAWS = 10  # in a row


class Updates:
    """The optimiser's side of a training's steps."""

    def __init__(self, state: TrainState) -> None:
        self.state, self.settings = state, state.settings
        self.parameters = list(state.learned.parameters())
        self.groups: dict[torch.device, list[Tensor]] = {}
        for parameter in self.parameters:
            self.groups.setdefault(parameter.device, []).append(parameter)

    def place(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Puts the gradients where the optimiser reads them, the loss's scale taken off; their length, by device.

        On one device they are clipped too; on several `apply` does it, when the length of all together is known.
        """
        scale = self.state.scale.value
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient if scale == 1 else gradient.mul_(1 / scale)
        longest = self.settings.clip_norm if self.settings.clip_norm and len(self.groups) == 1 else math.inf
        return [torch.nn.utils.clip_grad_norm_(group, longest) for group in self.groups.values()]

    def apply(self, norms: Sequence[float]) -> float:
        """The optimiser's step, from gradients of these lengths; returns its learning rate."""
        optimiser, longest, norm = self.state.optimiser, self.settings.clip_norm, math.hypot(*norms)
        if len(norms) > 1 and longest is not None and norm > longest:
            for parameter in self.parameters:
                parameter.grad = None if parameter.grad is None else parameter.grad.mul_(longest / norm)
        rate = rate_at(self.state.step, self.settings)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if self.settings.precision == "fp16":
            self.state.scale.after_good_step()
        return rate

    def skip(self, losses: Sequence[float], numbers: Sequence[float]) -> bool:
        """Throws the passes away and says so; whether another draw is needed.

        Where the losses are finite and the gradients are not, fp16 overflowed: then half the loss's scale will do.
        """
        self.state.optimiser.zero_grad(set_to_none=True)
        self.state.skipped += 1
        scale, step = self.state.scale.value, self.state.step + 1
        if self.settings.precision == "fp16":
            self.state.scale.after_bad_step()
        if scale > 1 and all(map(math.isfinite, losses)):
            log.info("step %d is tried again: fp16 overflowed at a loss scale of %g", step, scale)
            return False
        log.warning("step %d is tried again with another draw: its loss or gradient is %s", step, bad_one(numbers))
        return True

    def diverged(self, numbers: Sequence[float]) -> TrainingDiverged:
        """What is raised after too many bad steps in a row; before the first step no learning rate is to blame."""
        return TrainingDiverged(
            f"the loss or its gradient was {bad_one(numbers)} in {MOST_BAD_DRAWS} draws in a row "
            f"of step {self.state.step + 1}",
            "a finite number was expected",
            "lower the learning rate, or train again: other draws are tried"
            if self.state.step
            else "train again: other draws are tried; if they fail too, compute in fp32, or take another model or VAE",
        )


def read(values: Sequence[Tensor]) -> list[float]:
    """The numbers, in one wait for each device that they are on."""
    places: dict[torch.device, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value.device, []).append(place)
    found = [0.0] * len(values)
    for there in places.values():
        for place, number in zip(there, torch.stack([values[i].float() for i in there]).tolist(), strict=True):
            found[place] = number
    return found


def bad_one(numbers: Sequence[float]) -> float:
    """The first number that is none."""
    return next(number for number in numbers if not math.isfinite(number))
