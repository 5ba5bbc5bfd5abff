"""Moving tensors between devices so that the CPU waits for an accelerator as seldom as it can."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

WAITING = ("cpu", "mps")  # where a copy that nobody waits for may be read before it is there
UNCAST = ("meta", "vulkan")  # devices that torch has no autocast for, and raises even where it is to be off


def sent(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. A copy to an accelerator is only queued; one to the CPU is there."""
    return x.to(device, non_blocking=device.type not in WAITING)


def sent_like(x: Tensor, like: Tensor) -> Tensor:
    """The tensor on the other's device, in its type."""
    return sent(x, like.device).to(like.dtype)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """As `sent`, and the gradient comes back in the same way."""
    if x.device == device:
        return x
    there: Tensor = _Moved.apply(x, device)  # type: ignore[no-untyped-call]  # torch gives it no types
    return there


class _Moved(torch.autograd.Function):
    """A copy to a device whose backward pass copies back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, device: torch.device) -> Tensor:
        ctx.home = x.device
        return sent(x, device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return sent(gradient, ctx.home), None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Inside, matrix products are computed in that type; None: in the tensors' own, whatever was asked outside."""
    if dtype is None and device.type in UNCAST:  # asking torch would break a compiled graph
        return nullcontext()
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
