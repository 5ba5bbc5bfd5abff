"""Several concepts of one prompt in the host: what of each is on the model, and which rows it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....dci_core.attention.call import AttentionRule
from ....dci_core.attention.layers import LayerId
from ....dci_core.concept.learned import Concept
from ....dci_core.concept.together import Part, Together
from ....dci_core.dci.guidance import kept_apart
from ....dci_core.dci.maps import BranchRows
from ....dci_core.errors import BadSettings
from ....dci_core.families.weight_names import BLOCK, JOINT_STAGES, PARTS
from ..attention.projections import projections_seen
from ..concept.apply import as_patch, patch_key
from ..families.recognition import family_of
from .plan import DciPatch, DciPlan
from .regions import Area, region_for


def together_of(model: Any, plan: DciPlan) -> Together | None:
    """How a plan's concepts keep apart on this model; None for a plan of one concept. Raises BadSettings."""
    if not plan.concepts:
        return None
    if (family := family_of(model)).refiners:
        raise BadSettings(
            f"two concepts, or one with a region, came for {family.name}",
            "one concept without a region is expected there, since its layers serve text and image with the same "
            "weights",
            "draw them one after the other",
        )
    sides = plan.tokens.concept.parts, plan.tokens.auxiliary.parts
    parts = tuple(
        Part(slots, stand_in, concept.deltas, strength_on(model, concept), region_of(region))
        for slots, stand_in, concept, region in zip(*sides, plan.concepts, plan.regions, strict=True)
    )
    return Together(parts, plan.tokens.concept.length, plan.tokens.auxiliary.length)


def region_of(region: Tensor | None) -> Tensor | None:
    """A mask as the core takes it, [h w] or [b h w]; raises BadSettings."""
    if region is None:
        return None
    if not bool(((region >= 0) & (region <= 1)).all()):
        raise BadSettings("a concept's region holds values outside 0..1", "shares are expected", "clip the mask")
    if not float(region.max()) > 0:
        raise BadSettings("a concept's region is black", "a place for it is expected", "paint white where it should be")
    return region.squeeze(0) if region.ndim > 2 and region.shape[0] == 1 else region


def strength_on(model: Any, concept: Concept) -> float:
    """Sum of the strengths with which a concept's weight changes were put on a model; 0 where they are not on it."""
    layer, delta = next(iter(concept.deltas.items()))
    change = delta.k
    key, own = patch_key(layer, PARTS[0], change.shape[0]), first_tensor(as_patch(change))
    name, offset = (key, None) if isinstance(key, str) else key
    return sum(
        float(strength)
        for strength, patch, _, place, *_ in model.patches.get(name, [])
        if place == offset and is_same(first_tensor(patch), own)
    )


def first_tensor(patch: Any) -> Tensor | None:
    """The first tensor of one of the host's patches."""
    inner = getattr(patch, "weights", patch)
    while isinstance(inner, tuple | list) and inner:
        inner = next((item for item in inner if isinstance(item, torch.Tensor | tuple | list)), None)
    return inner if isinstance(inner, Tensor) else None


def is_same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two patches hold the same numbers."""
    if one is None or other is None:
        return False
    return one is other or (one.shape == other.shape and torch.equal(one.cpu(), other.cpu().to(one.dtype)))


def apart_rule(
    patch: DciPatch, rows: BranchRows, areas: Sequence[Area], size: tuple[int, int], shown: tuple[int, ...],
    device: torch.device, then: AttentionRule,
) -> AttentionRule:  # fmt: skip
    """The rule `then` in which every concept keeps to its words and its region.

    rows   with either text of the pair; areas  of the concept's, as for `region_for`
    size   (height, width) of the whole latents; shown  of the call's
    """
    assert patch.together is not None
    parts = [
        replace(part, region=region_for(part.region, areas, size, shown)) if part.region is not None else part
        for part in patch.together.parts
    ]
    return kept_apart(replace(patch.together, parts=tuple(parts)), rows, device, then)


def ruled_layers(patch: DciPatch) -> list[LayerId]:
    """Layers in which a rule acts: those that integrate, and of several concepts all that read text."""
    shares = patch.dbim.shares
    return [layer for layer, share in shares.items() if share] if patch.together is None else list(patch.layers)


@contextmanager
def projections_shown(patch: DciPatch, network: Any) -> Iterator[None]:
    """Inside, a transformer shows the text's keys and values before the norms, if concepts are to be taken off."""
    needs = patch.together is not None and any(layer.stage in (*JOINT_STAGES, BLOCK) for layer in patch.layers)
    if not needs:
        yield
        return
    with projections_seen(network):
        yield
