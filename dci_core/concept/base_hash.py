"""The fingerprint of a base model, which a concept keeps to know its own again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..families.weight_names import PARTS, weight_key
from ..fingerprint import short_hash, tensor_bytes


def hash_base(weights: Mapping[str, Tensor], layers: Iterable[LayerId]) -> str:
    """16 hex digits of the key and value weights that a concept would change; the same in every precision above fp16.

    weights  by LDM key, concepts not applied
    """
    keys = (weight_key(layer, part) for layer in layers for part in PARTS)
    return short_hash(tensor_bytes(weights[key], torch.float16) for key in keys)
