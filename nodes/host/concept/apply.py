"""A concept in the host: weight patches on the MODEL, a trigger word in the CLIP."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from ....dci_core.attention.layers import LayerId
from ....dci_core.concept.deltas import Delta
from ....dci_core.concept.learned import Concept, check_fit
from ....dci_core.errors import BadModel
from ....dci_core.families.family import Family
from ....dci_core.families.table import FAMILIES
from ....dci_core.families.weight_names import PARTS, weight_place
from ..families.recognition import family_of
from ..families.transformers import check_host_has
from .identity import base_hash
from .triggers import encoder_names, tokenizer_of, with_trigger

log = logging.getLogger(__name__)
PREFIX = "diffusion_model."
CONNECT = "connect the CLIP of the same checkpoint"
CARRIED = "ico_dci concept "  # attachment of a MODEL that a concept was put on, the trigger behind it


def with_concept(model: Any, clip: Any, concept: Concept, strength: float) -> tuple[Any, Any]:
    """(MODEL, CLIP) clones that know the concept; strength 0 leaves the weights alone. Raises BadConcept, BadModel."""
    if known := FAMILIES.get(concept.family):
        check_host_has(known, concept.trigger)
    family = family_of(model)
    check_encoders(clip, family)
    widths = {layer: (family.width(layer), family.context_width) for layer in family.learned_layers}
    base = base_hash(model, family)
    if base is None:
        log.info("this model's weights are packed; whether %s was trained on it cannot be told", concept.trigger)
    check_fit(concept, family=family.name, widths=widths, token_widths=dict(family.encoders), base_hash=base)
    clone = model.clone()
    clone.set_attachments(f"{CARRIED}{concept.trigger}", True)
    if strength:
        patches = weight_patches(concept)
        missing = set(patches) - set(clone.add_patches(patches, strength))
        if missing:
            raise BadModel(
                f"the model has no weight {sorted(missing, key=str)[0]}",
                f"all {len(patches)} key and value weights of {family.name} are expected",
                "load an ordinary checkpoint of this family",
            )
    return clone, with_trigger(clip, concept.trigger, concept.tokens, family.reserved)


def carries_concept(model: Any) -> bool:
    """Whether any concept was put on this MODEL, at whatever strength."""
    return any(str(name).startswith(CARRIED) for name in model.attachments)


def check_encoders(clip: Any, family: Family) -> None:
    """Raises BadModel where the CLIP belongs to another family than the MODEL."""
    came = {name: tokenizer_of(clip, name).embedding_size for name in encoder_names(clip)}
    if came != dict(family.encoders):
        raise BadModel(
            f"the CLIP has the text encoders {came or 'of another kind'}",
            f"{dict(family.encoders)} are expected by a {family.name} model",
            "load all of these together" if came.items() < dict(family.encoders).items() else CONNECT,
        )
    layer = getattr(clip.cond_stage_model, family.text_stream).layer if family.text_stream in came else None
    stacked = len(layer) if isinstance(layer, list) else 1
    if stacked != family.stacked:
        raise BadModel(
            f"the CLIP gives {stacked} of its layers side by side, as another base reads them",
            f"{family.stacked} is expected by a {family.name} model",
            "choose this base's type where the text encoder is loaded",
        )


def weight_patches(concept: Concept) -> dict[Any, Any]:
    """The host's patches of a concept's weight changes, factored where the concept is; of a part where weights are
    fused.
    """
    return {
        patch_key(layer, part, change.shape[0]): as_patch(change)
        for layer, delta in concept.deltas.items()
        for part, change in zip(PARTS, delta, strict=True)
    }


def patch_key(layer: LayerId, part: str, width: int) -> Any:
    """The host's name of a weight, or of the third of a fused one, (name, (axis, start, length))."""
    key, third = weight_place(layer, part)
    return PREFIX + key if third is None else (PREFIX + key, (0, third * width, width))


def as_patch(change: Delta) -> Any:
    """One change as the host adds it to a weight."""
    from comfy.weight_adapter import LoRAAdapter

    if change.down is None:
        return "diff", (change.up,)
    factors: tuple[Tensor | None, ...] = (change.up, change.down, None, None, None, None)
    return LoRAAdapter(set(), factors)
