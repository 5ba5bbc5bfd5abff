"""The fingerprint of a base model, which a concept keeps to know its own again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..families.weight_names import PARTS, weight_key


def hash_base(weights: Mapping[str, Tensor], layers: Iterable[LayerId]) -> str:
    """16 hex digits of the key and value weights that a concept would change; the same in every precision above fp16.

    weights  by LDM key, concepts not applied
    """
    seen = hashlib.sha256()
    for layer in layers:
        for part in PARTS:
            seen.update(
                weights[weight_key(layer, part)].detach().to("cpu", torch.float16).contiguous().numpy().tobytes()
            )
    return seen.hexdigest()[:16]
