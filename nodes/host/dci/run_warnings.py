"""What the user should know of a run before its first step; the record keeps it for the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....dci_core.dci.stability import shared_warning
from ....dci_core.noise.process import FLOW
from ..concept.apply import carries_concept
from ..families.sampling import kind_of, ratio_of
from ..region_frame import trouble_of_region
from .conds import is_changed, marked_entries
from .plan import DbimRecord, DciPatch, DciPlan


def warn_of_black_region(patch: DciPatch, record: DbimRecord) -> None:
    """Says so where the region leaves the whole picture alone."""
    region = patch.dbim.region
    if region is not None and not bool((region > 0).any()):
        record.warn("the region is black, so DCI acts nowhere; paint white where it should act")


def warn_of_misplaced_region(patch: DciPatch, record: DbimRecord) -> None:
    """Says so where the region may lie over a part of the picture that it was drawn for."""
    trouble = trouble_of_region(
        patch.dbim.region,
        record.size,
        "leave it out and mask the pair's conditioning in its place, as the help page of DBIM Layer Mask says",
    )
    if trouble:
        record.warn(trouble)


def warn_of_missing_concept(model: Any, record: DbimRecord) -> None:
    """Says so where the MODEL never learned the thing whose trigger the prompt holds."""
    if not carries_concept(model):
        record.warn(
            "no concept is on this MODEL, so the trigger is a word without a look; connect the model output of Load "
            "ICO Concept or ICO Train Concept"
        )


def warn_of_distilled_guidance(guider: Any, record: DbimRecord) -> None:
    """Says so where a model that is told its guidance gets a CFG beside it. Others that were distilled (klein, Turbo)
    have the shape of those that were not.
    """
    params, cfg = getattr(guider.model_patcher.model.diffusion_model, "params", None), getattr(guider, "cfg", None)
    if getattr(params, "guidance_embed", False) and cfg is not None and cfg > 1:
        record.warn(
            f"this model was distilled and is told its guidance (FluxGuidance); a CFG of {cfg:g} comes on top, takes "
            "twice the time and may burn the picture; set cfg to 1"
        )


def warn_of_changed_text(conds: dict[str, list[dict[str, Any]]], plan: DciPlan, record: DbimRecord) -> None:
    """Says so where another node changed the words of the pair, which the auxiliary prompt then does not follow."""
    if any(is_changed(entry, plan) for entry in marked_entries(conds, plan)):
        record.warn(
            "another node changed the text behind DCI Prompt Pair (averaged, scaled); the auxiliary prompt stays as "
            "it is written; write what you want into both prompts, or append it with Conditioning Concat"
        )


def warn_of_overshoot(
    patch: DciPatch, record: DbimRecord, cfg: float | None, sampling: Any, levels: Sequence[float], eta: float
) -> None:
    """Says so when shared guidance would run away with this CFG, these steps and this share of fresh noise.

    levels  of the run, and the window's threshold; a flow has no factor that could tell
    """
    if patch.settings.guidance != "shared" or cfg is None or kind_of(sampling) == FLOW:
        return
    *sigmas, threshold = (ratio_of(sampling, level) for level in levels)
    sentence = shared_warning(sigmas, float(cfg), threshold, eta)
    if sentence:
        record.warn(sentence)
