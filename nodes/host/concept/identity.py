"""Hashes that tell models and pictures apart."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....dci_core.concept.base_hash import hash_base
from ....dci_core.families.unet import Family
from ....dci_core.families.weight_names import PARTS, weight_key
from ....dci_core.fingerprint import short_hash, tensor_bytes

PREFIX = "diffusion_model."
_KNOWN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # the host's loaded models; forgets those that are gone


def digest(value: Tensor) -> str:
    """A hash of a tensor's numbers and shape."""
    return short_hash([repr(tuple(value.shape)).encode(), tensor_bytes(value, torch.float32)])


def base_hash(model: Any, family: Family) -> str:
    """The fingerprint of a MODEL's key and value weights as its checkpoint has them, patches left out.

    Taken once for each loaded checkpoint, however many clones and queues share it.
    """
    if model.model not in _KNOWN:
        names = [weight_key(layer, part) for layer in family.layers for part in PARTS]
        weights = dict(zip(names, map(widened, kv_weights(model, family)), strict=True))
        _KNOWN[model.model] = hash_base(weights, family.layers)
    return _KNOWN[model.model]


def kv_weights(model: Any, family: Family) -> list[Tensor]:
    """Key and value weights of all cross-attentions as the checkpoint has them, in the order of the forward pass."""
    entries = model.get_key_patches(PREFIX)
    return [original(entries[PREFIX + weight_key(layer, part)][0]) for layer in family.layers for part in PARTS]


def original(entry: Any) -> Tensor:
    """The weight itself; newer hosts put what converts it beside it."""
    return entry[0] if isinstance(entry, tuple | list) else entry


def widened(weight: Tensor) -> Tensor:
    """Weights of eight bits as fp16, which holds them all."""
    return weight if weight.dtype.itemsize > 1 else weight.to(torch.float16)


def patches_hash(model: Any) -> str:
    """The fingerprint of all patches on a MODEL: other LoRAs or concepts that a training starts from."""
    return short_hash(
        repr((str(key), strength, [digest(x) for x in tensors_in(value)])).encode()
        for key in sorted(model.patches, key=str)
        for strength, value, *_ in model.patches[key]
    )


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside a patch, in order."""
    if torch.is_tensor(value):
        return [value]
    inner = getattr(value, "weights", value)
    return [x for item in inner for x in tensors_in(item)] if isinstance(inner, tuple | list) else []
