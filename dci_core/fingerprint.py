"""Fingerprints: short hashes of tensors, numbers and words, the same on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

HEX_DIGITS = 16  # 64 bits: enough to tell apart what one user ever has
LATER = {"later": True}  # metadata of a field that came after results were kept: at its default they stay valid


def short_hash(parts: Iterable[bytes]) -> str:
    """16 hex digits of the parts one after the other."""
    seen = hashlib.sha256()
    for part in parts:
        seen.update(part)
    return seen.hexdigest()[:HEX_DIGITS]


def as_data(value: Any) -> Any:
    """A nest of dataclasses as `asdict` gives it, without fields that are `LATER` and stand at their default."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {each: getattr(value, each.name) for each in fields(value)}
        told = {each.name: one for each, one in own.items() if each.metadata != LATER or one != each.default}
        return {name: as_data(one) for name, one in told.items()}
    if isinstance(value, dict):
        return {key: as_data(item) for key, item in value.items()}
    return type(value)(map(as_data, value)) if isinstance(value, list | tuple) else value


def tensor_bytes(x: Tensor, dtype: torch.dtype | None = None) -> bytes:
    """A tensor's numbers bit by bit, in row order; brought to dtype first where one is given. Shapes are not in it."""
    plain = x.detach().to("cpu", dtype or x.dtype).contiguous()
    return plain.flatten().view(torch.uint8).numpy().tobytes()


def fingerprint(*values: Any) -> str:
    """16 hex digits of every bit of a nest of tensors, numbers and words in lists, tuples and mappings.

    Tensors count with their dtype and shape, mappings in the order of their keys' text.
    """
    return short_hash(_bits(values))


def _bits(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield repr((value.dtype, tuple(value.shape))).encode()
        yield tensor_bytes(value)
    elif isinstance(value, Mapping):
        yield from _bits([part for key in sorted(value, key=str) for part in (str(key), value[key])])
    elif isinstance(value, list | tuple):
        yield f"{len(value)}(".encode()
        for item in value:
            yield from _bits(item)
    else:
        yield repr(value).encode() + b";"
