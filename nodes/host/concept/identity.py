"""Hashes that tell models and pictures apart."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ....dci_core.attention.layers import LayerId
from ....dci_core.concept.base_hash import hash_base
from ....dci_core.families.family import Family
from ....dci_core.families.weight_names import PARTS, weight_key, weight_place
from ....dci_core.files import raw_bytes
from ....dci_core.fingerprint import short_hash, tensor_bytes

PREFIX = "diffusion_model."
PLAIN = (Tensor, torch.nn.Parameter)
_KNOWN: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()  # the host's loaded models; forgets those gone
_WHOLE: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # the same of all their weights


def digest(value: Tensor) -> str:
    """A hash of a tensor's numbers and shape."""
    return short_hash([repr(tuple(value.shape)).encode(), tensor_bytes(value, torch.float32)])


def base_hash(model: Any, family: Family) -> str | None:
    """The fingerprint of a MODEL's key and value weights as its checkpoint has them, patches left out; None where they
    are packed in a form that only their own loader can read (GGUF).

    Taken once for each loaded checkpoint, however many clones and queues share it.
    """
    if model.model not in _KNOWN:
        names = [(layer, part) for layer in family.learned_layers for part in PARTS]
        weights = [unpacked(weight) for weight in kv_weights(model, family)]
        found = zip(names, weights, strict=True)
        plain = {weight_key(*name): own_part(*name, weight) for name, weight in found if weight is not None}
        _KNOWN[model.model] = hash_base(plain, family.learned_layers) if len(plain) == len(names) else None
    return _KNOWN[model.model]


def kv_weights(model: Any, family: Family) -> list[Tensor]:
    """Weights that hold the text's keys and values, as the checkpoint has them, in the order of the forward pass; a
    fused one comes for each of its parts.
    """
    entries = model.get_key_patches(PREFIX)
    places = [weight_place(layer, part)[0] for layer in family.learned_layers for part in PARTS]
    return [original(entries[PREFIX + place][0]) for place in places]


def own_part(layer: LayerId, part: str, weight: Tensor) -> Tensor:
    """The layer's key or value weight of the weight that holds it."""
    third = weight_place(layer, part)[1]
    return weight if third is None else weight.chunk(3)[third]


def original(entry: Any) -> Tensor:
    """The weight itself; newer hosts put what converts it beside it."""
    return entry[0] if isinstance(entry, tuple | list) else entry


def unpacked(weight: Tensor) -> Tensor | None:
    """A weight's own numbers, those of eight bits as fp16, which holds them all; None where it cannot say them."""
    if type(weight) not in PLAIN and hasattr(weight, "dequantize"):
        try:
            weight = weight.dequantize()
        except RuntimeError:  # every torch tensor has the method, and few an answer
            return None
    if type(weight) not in PLAIN or not weight.is_floating_point():
        return None
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


def weights_hash(patcher: Any, prefix: str = "") -> str:
    """The fingerprint of every weight of a network as its file has it, patches left out; taken once for each load."""
    if patcher.model not in _WHOLE:
        entries = patcher.get_key_patches()
        names = sorted(name for name in entries if name.startswith(prefix))
        _WHOLE[patcher.model] = short_hash(
            part for name in names for part in (name.encode(), *bits_of(original(entries[name][0])))
        )
    return _WHOLE[patcher.model]


def bits_of(weight: Tensor) -> list[Any]:
    """A weight's type, shape and numbers; of a packed format that has no plain numbers, all of its parts that have."""
    head = repr((type(weight).__name__, weight.dtype, tuple(weight.shape))).encode()
    if weight.device.type == "meta":
        return [head]
    if type(weight) in PLAIN:
        return [head, raw_bytes(weight)]
    parts = [value for _, value in sorted(vars(weight).items()) if torch.is_tensor(value)]
    return [head, *(raw_bytes(part) for part in parts if type(part) is Tensor)]


def all_patches_hash(patcher: Any) -> str:
    """The fingerprint of all patches on a network: tensors, strengths, scales, places, kinds."""
    return short_hash(described((str(key), patcher.patches[key])).encode() for key in sorted(patcher.patches, key=str))


def described(value: Any) -> str:
    """A patch in words: numbers and words as they are, tensors by their digest, everything else by its kind."""
    if torch.is_tensor(value):
        return digest(value)
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({','.join(map(described, value))})"
    if isinstance(value, dict):
        return f"({','.join(f'{key}:{described(value[key])}' for key in sorted(value, key=str))})"
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{name}{described(value.weights)}" if hasattr(value, "weights") else name


def sampling_hash(model: Any) -> str:
    """The fingerprint of a MODEL's sampling object: its kind, its noise levels, its scales."""
    sampling = model.get_model_object("model_sampling")
    kinds = [kind.__name__ for kind in type(sampling).__mro__]
    numbers = {name: value for name, value in vars(sampling).items() if isinstance(value, bool | int | float)}
    return short_hash([described((kinds, dict(sampling.named_buffers()), numbers)).encode()])
