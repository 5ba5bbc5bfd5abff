"""A concept as two plain files for users without this pack: a LoRA and an embedding."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..errors import BadConcept
from ..families.table import find_family
from ..families.weight_names import FUSED_STAGES, PARTS, block_path, diffusers_path, module_path
from ..files import write_tensors
from .deltas import Delta, LayerDelta
from .learned import CONCEPT_HASH, DEFAULT_RANK, Concept, concept_hash, pack_deltas
from .modelspec import model_spec

DIFFUSERS_SPELLING = frozenset(
    {"sd15", "sd15_v", "sd21", "sd21_base"}
)  # what LoRA files of these families are written in


def export_lora(
    concept: Concept, path: Path, *, rank: int = DEFAULT_RANK, precision: str = "fp16", phrase: str | None = None
) -> float:
    """A LoRA of the weight changes stands at path; returns the relative error of its rank and precision.

    Keys as in kohya's files (`lora_unet_<module>.lora_up.weight`), alpha equal to the rank: strength 1 is the concept.
    phrase  what to write in a prompt beside it, for those who look into the file
    Where the text's weight is fused both changes are one, so its rank is twice as high.
    """
    kept, about = pack_deltas(concept.deltas, rank, precision)
    tensors: dict[str, Tensor] = {}
    for layer, delta in kept.items():
        for name, change in lora_changes(concept.family, layer, delta).items():
            assert change.down is not None  # a rank was asked, so factors are what there is
            tensors[f"{name}.lora_up.weight"] = change.up
            tensors[f"{name}.lora_down.weight"] = change.down
            tensors[f"{name}.alpha"] = torch.tensor(float(change.down.shape[0]))
    about_it = {"ss_output_name": concept.trigger, CONCEPT_HASH: concept_hash(concept)}
    write_tensors(path, tensors, about_it | model_spec(concept, "lora", phrase))
    return about.error


def export_embedding(concept: Concept, path: Path, *, phrase: str | None = None) -> None:
    """The modifier tokens stand at path as an embedding file: {"clip_l": [T c], "clip_g": [T c]}.

    A host shows them where the prompt names the file (`embedding:<file> <noun>`). Raises BadConcept for a family whose
    stock text encode takes none.
    """
    if not find_family(concept.family).takes_embeddings:
        raise BadConcept(
            f'the concept "{concept.trigger}" is for {concept.family}, whose prompts take no embedding files',
            "a LoRA alone is expected of it",
            "export the LoRA, and draw the trigger with Load ICO Concept",
        )
    about = {CONCEPT_HASH: concept_hash(concept)} | model_spec(concept, "textual-inversion", phrase)
    write_tensors(path, {name: rows.float() for name, rows in concept.tokens.items()}, about)


def lora_changes(family: str, layer: LayerId, delta: LayerDelta) -> dict[str, Delta]:
    """A layer's factored changes by the name of the weight in LoRA files."""
    if layer.stage not in FUSED_STAGES:
        return {lora_name(family, layer, part): change for part, change in zip(PARTS, delta, strict=True)}
    assert delta.k.down is not None and delta.v.down is not None
    k, v = delta.k.up, delta.v.up
    none_of_k, none_of_v = k.new_zeros(len(k), v.shape[1]), v.new_zeros(len(v), k.shape[1])
    query = k.new_zeros(len(k), k.shape[1] + v.shape[1])
    up = torch.cat((query, torch.cat((k, none_of_k), dim=1), torch.cat((none_of_v, v), dim=1)))  # (three heads d) rank
    return {f"lora_unet_{block_path(layer)}.qkv".replace(".", "_"): Delta(up, torch.cat((delta.k.down, delta.v.down)))}


def lora_name(family: str, layer: LayerId, part: str) -> str:
    """`lora_unet_<module with underscores>`, in the spelling that the family's LoRA files use."""
    is_renamed = family in DIFFUSERS_SPELLING
    module = f"{diffusers_path(layer)}.to_{part}" if is_renamed else module_path(layer, part)
    return f"lora_unet_{module}".replace(".", "_")
