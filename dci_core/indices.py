"""Which rows or slots are meant, as something a device can use at once: prepared once, not at every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from .devices import sent

Pick = Callable[[Tensor, int], Tensor]
"""(x, axis) -> the chosen places along the axis, in order."""


@lru_cache(maxsize=256)
def indices_on(indices: tuple[int, ...], device: torch.device) -> Tensor:
    """An index tensor, made once per device: a copy to an accelerator at every step would stall it."""
    with torch.inference_mode(False):  # else a later backward pass could not save it
        return sent(torch.tensor(indices, dtype=torch.long), device)


def picker(places: tuple[int, ...], device: torch.device) -> Pick:
    """What takes these places of a tensor: a view where they lie in even steps, as they mostly do, else a copy."""
    strides = {after - before for before, after in zip(places[:-1], places[1:], strict=True)} or {1}
    if len(strides) == 1 and min(strides) > 0:
        return partial(_sliced, slice(places[0], places[-1] + 1, strides.pop()))
    return partial(_gathered, indices_on(places, device))


def _sliced(places: slice, x: Tensor, axis: int) -> Tensor:
    return x[(slice(None),) * (axis % x.ndim) + (places,)]


def _gathered(places: Tensor, x: Tensor, axis: int) -> Tensor:
    return x.index_select(axis, places)
