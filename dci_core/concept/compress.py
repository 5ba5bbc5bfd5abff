"""Low-rank copies of weight changes, with the error that they cost."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..attention.layers import LayerId
from .deltas import Delta, LayerDelta


def compress(delta: Delta, rank: int) -> Delta:
    """The nearest change of at most that rank (by SVD), its scale shared evenly by both factors.

    A change that has no more factors than that is returned as it is.
    """
    if delta.down is not None and delta.down.shape[0] <= rank:
        return delta
    u, s, v = torch.linalg.svd(delta.dense(), full_matrices=False)
    root = s[:rank].sqrt()
    return Delta(u[:, :rank] * root, root[:, None] * v[:rank])


def compress_all(deltas: Mapping[LayerId, LayerDelta], rank: int) -> dict[LayerId, LayerDelta]:
    """Every layer's changes at no more than that rank."""
    return {layer: LayerDelta(compress(d.k, rank), compress(d.v, rank)) for layer, d in deltas.items()}


def relative_error(kept: Mapping[LayerId, LayerDelta], whole: Mapping[LayerId, LayerDelta]) -> float:
    """Frobenius norm of what was lost over that of all changes, 0..1; 0 where nothing was changed."""
    lost = total = 0.0
    for layer, pair in whole.items():
        for short, full in zip(kept[layer], pair, strict=True):
            dense = full.dense()
            lost += _square(short.dense() - dense)
            total += _square(dense)
    return (lost / total) ** 0.5 if total > 0 else 0.0


def _square(x: Tensor) -> float:
    return float((x.double() ** 2).sum())
