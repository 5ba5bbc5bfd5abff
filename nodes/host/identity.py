"""Hashes that tell models and pictures apart."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from ...dci_core.layer_names import block_path
from .patching import cross_attention_layers


def digest(value: Tensor) -> str:
    """A hash of a tensor's numbers and shape."""
    plain = value.detach().cpu().float().contiguous()
    seen = hashlib.sha256(repr(tuple(plain.shape)).encode())
    seen.update(plain.numpy().tobytes())
    return seen.hexdigest()[:16]


def base_id(model: Any) -> str:
    """A hash of a MODEL's key weights in its first, middle and last cross-attention, and of all patches on it."""
    layers = cross_attention_layers(model)
    seen = hashlib.sha256()
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        for entries in model.get_key_patches(f"diffusion_model.{block_path(layer)}.to_k.weight").values():
            first = entries[0]
            weight = first[0] if isinstance(first, tuple | list) else first
            seen.update(digest(weight).encode())
    for key in sorted(model.patches, key=str):
        for strength, value, *_ in model.patches[key]:
            seen.update(repr((str(key), strength, [digest(x) for x in tensors_in(value)])).encode())
    return seen.hexdigest()[:16]


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside a patch, in order."""
    if torch.is_tensor(value):
        return [value]
    inner = getattr(value, "weights", value)
    return [x for item in inner for x in tensors_in(item)] if isinstance(inner, tuple | list) else []
