"""Noise levels of model calls as plain numbers, read from the device once for each call."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_READ: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # the levels of calls that are running


def sigma_of(levels: Tensor) -> float:
    """The highest noise level of a model call [rows]; its controls and its rows ask for the same tensor."""
    if levels not in _READ:
        _READ[levels] = float(levels.max())
    found: float = _READ[levels]
    return found


def remembered(threshold: Callable[[torch.nn.Module], float]) -> Callable[[torch.nn.Module], float]:
    """The same threshold, worked out once for each sampling object, whose tables lie on the device."""
    known: WeakKeyDictionary[torch.nn.Module, float] = WeakKeyDictionary()

    def look(sampling: torch.nn.Module) -> float:
        if sampling not in known:
            known[sampling] = threshold(sampling)
        return known[sampling]

    return look
