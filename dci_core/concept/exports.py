"""A concept as two plain files for users without this pack: a LoRA and an embedding."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..attention.layers import LayerId
from ..errors import BadConcept
from ..families.weight_names import JOINT_STAGES, PARTS, block_path, diffusers_path
from ..files import write_tensors
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
    Raises BadConcept for a flow's concept.
    """
    if any(layer.stage in JOINT_STAGES for layer in concept.deltas):
        raise BadConcept(
            f'the concept "{concept.trigger}" changes the text rows of joint attentions',
            "a U-Net's concept was expected: a plain LoRA would change the picture's rows too",
            "use the concept's own file",
        )
    kept, about = pack_deltas(concept.deltas, rank, precision)
    tensors: dict[str, Tensor] = {}
    for layer, delta in kept.items():
        for part, change in zip(PARTS, delta, strict=True):
            assert change.down is not None  # a rank was asked, so factors are what there is
            name = lora_name(concept.family, layer, part)
            tensors[f"{name}.lora_up.weight"] = change.up
            tensors[f"{name}.lora_down.weight"] = change.down
            tensors[f"{name}.alpha"] = torch.tensor(float(change.down.shape[0]))
    about_it = {"ss_output_name": concept.trigger, CONCEPT_HASH: concept_hash(concept)}
    write_tensors(path, tensors, about_it | model_spec(concept, "lora", phrase))
    return about.error


def export_embedding(concept: Concept, path: Path, *, phrase: str | None = None) -> None:
    """The modifier tokens stand at path as an embedding file: {"clip_l": [T c], "clip_g": [T c]}.

    A host shows them where the prompt names the file (`embedding:<file> <noun>`).
    """
    about = {CONCEPT_HASH: concept_hash(concept)} | model_spec(concept, "textual-inversion", phrase)
    write_tensors(path, {name: rows.float() for name, rows in concept.tokens.items()}, about)


def lora_name(family: str, layer: LayerId, part: str) -> str:
    """`lora_unet_<module with underscores>`, in the spelling that the family's LoRA files use."""
    module = diffusers_path(layer) if family in DIFFUSERS_SPELLING else block_path(layer)
    return f"lora_unet_{module}.to_{part}".replace(".", "_")
