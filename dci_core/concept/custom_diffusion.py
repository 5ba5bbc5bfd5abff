"""Concepts from the weights of Custom Diffusion (Kumari et al., CVPR 2023): diffusers' files and the original's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..errors import BadConcept
from ..families.weight_names import in_order, read_diffusers, read_ldm, weight_key
from ..files import check_finite, read_tensors
from ..torch_files import load_weights_only
from .deltas import Delta, LayerDelta
from .learned import DEFAULT_RANK, Concept, check_trigger, pack_deltas

EXPECTED = "key and value weights of Custom Diffusion were expected"
REDO = "train or convert it with keys and values only"
Parts = dict[tuple[LayerId, str], Delta]


def import_diffusers(
    weights: Path,
    embeddings: Sequence[Path],
    base: Mapping[str, Tensor],
    *,
    family: str,
    trigger: str,
    noun: str,
    rank: int | None = DEFAULT_RANK,
    encoder: str = "clip_l",
) -> Concept:
    """A concept from diffusers' `pytorch_custom_diffusion_weights` and its `<new1>` files, as safetensors.

    weights  whole key and value weights (`....attn2.processor.to_k_custom_diffusion.weight`)
    base     the model's own weights by LDM key; what was learned is the difference
    Raises BadConcept.
    """
    what = "Custom Diffusion file"
    tensors = read_tensors(weights, what)[0]
    rows: dict[str, Tensor] = {}
    for path in embeddings:
        rows |= read_tensors(path, what)[0]
    check_finite(tensors | rows, weights.name)
    parts = _changes(tensors, read_diffusers, base, weights.name)
    tokens = [rows[name] for name in sorted(rows)]
    return _concept(parts, tokens, weights.name, family, trigger, noun, rank, encoder)


def import_original(
    checkpoint: Path,
    base: Mapping[str, Tensor],
    *,
    family: str,
    trigger: str,
    noun: str,
    rank: int | None = DEFAULT_RANK,
    encoder: str = "clip_l",
) -> Concept:
    """A concept from the original `delta.ckpt`, of which tensors alone are read; for the program, never for a node.

    Holds either whole weights or, where it was compressed, factors u, v of the difference. Raises BadConcept.
    """
    whole: Any = load_weights_only(checkpoint, EXPECTED, BadConcept, "check that it is a delta checkpoint")
    try:
        state = whole["state_dict"]
        rows = state["embed"]
    except (KeyError, TypeError) as error:
        raise BadConcept(
            f'"{checkpoint.name}" holds no state_dict with an embed', EXPECTED, "check that it is a delta checkpoint"
        ) from error
    rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in rows.values()]) if isinstance(rows, dict) else rows
    flat = {key: value for key, value in state.items() if key != "embed"}
    check_finite({"embed": rows, **{k: v for k, v in flat.items() if isinstance(v, Tensor)}}, checkpoint.name)
    parts = _changes(flat, read_ldm, base, checkpoint.name)
    return _concept(parts, list(rows), checkpoint.name, family, trigger, noun, rank, encoder)


def _changes(
    tensors: Mapping[str, Any],
    read: Callable[[str], tuple[LayerId, str] | None],
    base: Mapping[str, Tensor],
    name: str,
) -> Parts:
    """The change of each weight in the file; everything in it must be a key or value weight."""
    parts: Parts = {}
    for key, value in tensors.items():
        place = read(key)
        if place is None:
            raise BadConcept(f'"{name}" also changes {key}', EXPECTED, REDO)
        own = base.get(weight_key(*place))
        change = Delta(value["u"].float(), value["v"].float()) if isinstance(value, dict) else None
        shape = tuple(value.shape) if change is None else change.shape
        if own is None or tuple(own.shape) != shape:
            raise BadConcept(
                f'"{name}" has {key} of shape {shape}',
                f"{'no such weight' if own is None else tuple(own.shape)} was expected",
                "import it with the base model that it was trained on",
            )
        parts[place] = change or Delta(value.float() - own.detach().cpu().float())
    return parts


def _concept(
    parts: Parts,
    tokens: Sequence[Tensor],
    name: str,
    family: str,
    trigger: str,
    noun: str,
    rank: int | None,
    encoder: str,
) -> Concept:
    check_trigger(trigger)
    layers = in_order({layer for layer, _ in parts})
    if not tokens or not layers or len(parts) != 2 * len(layers):
        raise BadConcept(f'"{name}" has {len(parts)} weights and {len(tokens)} tokens', EXPECTED, REDO)
    whole = {layer: LayerDelta(parts[layer, "k"], parts[layer, "v"]) for layer in layers}
    deltas, about = pack_deltas(whole, rank, "fp16")
    rows = torch.stack([row.detach().float().reshape(-1) for row in tokens])
    return Concept(family, trigger, noun, {encoder: rows}, deltas, about)
