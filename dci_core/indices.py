"""Rows and slots by number, on any device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def indices_on(indices: tuple[int, ...], device: torch.device) -> Tensor:
    """An index tensor, made once per device: a copy to an accelerator at every step would stall it."""
    with torch.inference_mode(False):  # else a later backward pass could not save it
        return torch.tensor(indices, dtype=torch.long, device=device)
