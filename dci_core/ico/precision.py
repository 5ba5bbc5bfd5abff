"""The precision that training computes in: bf16, fp16 with a scaled loss, or fp32. What is learned is always fp32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import BadSettings

Precision = Literal["fp32", "bf16", "fp16"]
AUTO = "auto"
DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_CAPABILITY = (8, 0)  # CUDA cards from Ampere on have it in hardware
FIRST_SCALE, MOST_SCALE = 2.0**16, 2.0**24  # the first is torch.amp.GradScaler's, as are the 2000 steps
GROWS_AFTER = 2000


def choose_precision(asked: str, *, has_bf16: bool, has_fp16: bool) -> Precision:
    """The asked precision; `auto`: bf16 where the device has it, else fp16, else fp32. Raises BadSettings."""
    if asked == AUTO:
        return "bf16" if has_bf16 else "fp16" if has_fp16 else "fp32"
    for name in ("fp32", "bf16", "fp16"):
        if asked == name:
            return name
    raise BadSettings(f"the precision is {asked!r}", f"one of auto, {', '.join(DTYPES)} is expected", "choose auto")


def device_precision(asked: str, device: torch.device) -> Precision:
    """`choose_precision` for a device, by what torch says of it. A CPU computes in fp32 unless told otherwise."""
    is_cuda = device.type == "cuda"
    has_bf16 = is_cuda and torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
    return choose_precision(asked, has_bf16=has_bf16, has_fp16=is_cuda)


@dataclass
class LossScale:
    """What the loss is multiplied by in fp16, so that small gradients survive: as large as overflows leave it.

    `torch.amp.GradScaler` does the same, but needs all parameters on one device (the text encoder may be on another)
    and one more wait for the device in each step.

    value       a power of two; a gradient divided by it is exact
    good_steps  since it last changed
    """

    value: float = 1.0
    good_steps: int = 0

    @classmethod
    def of(cls, precision: str) -> LossScale:
        """The scale that a training begins with; 1 for ever except in fp16."""
        return cls(FIRST_SCALE if precision == "fp16" else 1.0)

    def after_good_step(self) -> None:
        """Counts; doubles after enough of them."""
        self.good_steps += 1
        if self.good_steps >= GROWS_AFTER:
            self.value, self.good_steps = min(self.value * 2, MOST_SCALE), 0

    def after_bad_step(self) -> None:
        """Halves, to no less than 1."""
        self.value, self.good_steps = max(self.value / 2, 1.0), 0
