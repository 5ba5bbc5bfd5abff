"""The times of a rectified flow: how a run steps through them, and the window in them.

sigma is the time, x = (1 - sigma) x0 + sigma noise, from 1 (noise) to 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadSettings
from .schedule import TRAINING_STEPS, check_window, shifted

EVEN = "normal"  # the one spacing: even in the flow's own time, as the host's `simple` is


@dataclass(frozen=True)
class FlowSchedule:
    """A flow whose times are shifted towards noise by so much."""

    shift: float = 1.0

    def spaced(self, spacing: str, num_steps: int) -> list[float]:
        """Falling times of a run, num_steps + 1 from 1 to 0; raises BadSettings."""
        if spacing != EVEN:
            raise BadSettings(
                f"the spacing is {spacing!r}", f"{EVEN!r} is expected: a flow is spaced evenly", "leave it out"
            )
        if not 1 <= num_steps <= TRAINING_STEPS:
            raise BadSettings(f"{num_steps} steps were asked for", "1 to 1000 are expected", "choose a number of steps")
        even = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
        return [float(t) for t in shifted(even, self.shift)]

    def threshold(self, window: float) -> float:
        """Time above which DCI acts, the window being a share of the run's even time; infinite for a closed window.

        The same as the host's percent_to_sigma(window). Raises BadSettings.
        """
        check_window(window)
        return math.inf if window == 0 else float(shifted(torch.tensor(1 - window, dtype=torch.float64), self.shift))

    def passed(self, sigma: float) -> float:
        """Share of the run's even time that is noisier than this, 0..1: the window that closes here."""
        return 1 - sigma / (self.shift - (self.shift - 1) * sigma)

    def noised(self, noise: Tensor, sigma: float, start: Tensor | None = None) -> Tensor:
        """Where a run at this time begins: noise over the latents to start from, or over none."""
        scaled = noise * sigma
        return scaled if start is None else scaled + (1 - sigma) * start.to(scaled)
