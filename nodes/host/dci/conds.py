"""Gives a guider's conditionings the branch axis: two rows where the plan's text stands, tags everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import lcm
from typing import Any

import torch
from torch import Tensor

from ....dci_core.dci.branches import for_all, pair
from ....dci_core.dci.row_plan import COMMON, FREE, PAIRED
from ....dci_core.errors import BadModel, BadSettings
from .plan import MARK, TEXT_MARKS, DciPlan
from .tags import NAME, tags_of_kind

PICTURE_KEYS = ("mask", "concat_latent_image", "concat_mask", "concat_image")  # one row a picture
TEXT_KEYS = ("cross_attn", "pooled_output")
NEGATIVE = "negative"
MOST_REPEATS = 4  # of a text, in the host too, so that two of unlike length run in one call


def paired_conds(
    conds: Mapping[str, list[dict[str, Any]]], plan: DciPlan, branch_control: Callable[[Any], Any]
) -> dict[str, list[dict[str, Any]]]:
    """The same conditionings for both branches.

    A conditioning that carries the plan's mark gets the auxiliary prompt as its second row. A list without any is
    common to both branches: shared guidance computes it for the concept alone. Raises as `check_marked` does.

    branch_control  a ControlNet for both branches from one for pictures
    """
    check_marked(conds, plan)
    out = {}
    for name, entries in conds.items():
        marked = [name != NEGATIVE and entry.get(MARK) == plan.mark for entry in entries]
        kinds = [PAIRED if is_marked else FREE if any(marked) else COMMON for is_marked in marked]
        out[name] = [
            with_branches(entry, kind, plan, branch_control) for entry, kind in zip(entries, kinds, strict=True)
        ]
    return out


def check_marked(conds: Mapping[str, list[dict[str, Any]]], plan: DciPlan) -> None:
    """Raises BadSettings when no conditioning of the run comes from the plan's prompt pair, and for GLIGEN."""
    if any("gligen" in entry for entries in conds.values() for entry in entries):
        raise BadSettings(
            "a conditioning holds GLIGEN boxes", "they place the rows of one branch alone", "leave GLIGEN out with DCI"
        )
    if not marked_entries(conds, plan):
        raise BadSettings(
            "none of the sampler's positive conditionings comes from the prompt pair of this plan",
            "the pair's own conditioning is expected there",
            "connect `positive` of DCI Prompt Pair to the sampler",
        )


def auxiliary_text(entry: Mapping[str, Any], plan: DciPlan) -> dict[str, Any]:
    """What of a conditioning of the concept's text is another in the auxiliary branch: its text, its pooled text, and
    what else the model reads of a text (None where the auxiliary prompt has no such thing).
    """
    own = (("cross_attn", plan.hidden), ("pooled_output", plan.pooled))
    texts = {
        key: carried_over(entry[key], value, plan.tokens.concept.length)
        for key, value in own
        if value is not None and isinstance(entry.get(key), Tensor)
    }
    return texts | {key: plan.marks.get(key) for key in TEXT_MARKS if key in entry or key in plan.marks}


def carried_over(concept: Tensor, auxiliary: Tensor, length: int | None) -> Tensor:
    """The auxiliary's text for each row of the concept's, with what another node did to that.

    What was appended behind the concept's own `length` slots is appended here too; where all was zeroed, so is this.
    """
    auxiliary = auxiliary.to(concept).expand(concept.shape[0], *auxiliary.shape[1:])
    if concept.shape[-1] != auxiliary.shape[-1]:
        raise BadModel(
            f"the concept's text is {concept.shape[-1]} wide and the auxiliary's {auxiliary.shape[-1]}",
            "one text encoder is expected for both",
            "make the conditioning and the plan with one DCI Prompt Pair",
        )
    if not concept.any():
        return torch.zeros_like(auxiliary)
    if concept.ndim == 3 and length is not None and concept.shape[1] > length:
        return torch.cat([auxiliary, concept[:, length:]], dim=1)
    return auxiliary


def is_changed(entry: Mapping[str, Any], plan: DciPlan) -> bool:
    """Whether another node changed the concept's own words, in a way that the auxiliary prompt cannot follow."""
    text, length = entry.get("cross_attn"), plan.tokens.concept.length
    if not plan.own or not isinstance(text, Tensor) or text.ndim != 3 or not text.any():
        return False
    return not any(torch.equal(text[:1, :length].cpu(), own.to(text.dtype).cpu()) for own in plan.own)


def unlike_texts(conds: Mapping[str, list[dict[str, Any]]], plan: DciPlan, may_repeat: bool = True) -> tuple[str, ...]:
    """Of texts that are too unlike for one model call, in length or by what else is read of them: what the record says.

    may_repeat  not in joint attention, where a repeated text would weigh more
    """
    if plan.marks or any(key in entry for entry in marked_entries(conds, plan) for key in TEXT_MARKS):
        return ("texts that the model reads one by one",)
    most_repeats = MOST_REPEATS if may_repeat else 1
    for entry in marked_entries(conds, plan):
        other = auxiliary_text(entry, plan).get("cross_attn")
        if other is not None and other.ndim == 3:
            lengths = sorted((entry["cross_attn"].shape[1], other.shape[1]))
            if lcm(*lengths) > most_repeats * lengths[0]:
                return (f"texts of {lengths[0]} and {lengths[1]} tokens",)
    return ()


def marked_entries(conds: Mapping[str, list[dict[str, Any]]], plan: DciPlan) -> list[dict[str, Any]]:
    """The conditionings that come from the plan's prompt pair."""
    return [
        entry
        for name, entries in conds.items()
        for entry in entries
        if name != NEGATIVE and entry.get(MARK) == plan.mark
    ]


def with_branches(
    entry: dict[str, Any], kind: int, plan: DciPlan, branch_control: Callable[[Any], Any]
) -> dict[str, Any]:
    """One conditioning with the branch axis in everything that has a row for each picture."""
    both = dict(entry)
    for key in PICTURE_KEYS:
        if isinstance(both.get(key), Tensor) and both[key].ndim > 2:
            both[key] = doubled(both[key])
    other = auxiliary_text(entry, plan) if kind == PAIRED else {}
    for key in TEXT_KEYS:
        if isinstance(both.get(key), Tensor):
            both[key] = beside(both[key], other[key]) if key in other else doubled(both[key])
    if both.get("control") is not None:
        both["control"] = branch_control(both["control"])
    both["model_conds"] = {**both["model_conds"], NAME: tags_of_kind(kind)}
    return both


def doubled(rows: Tensor) -> Tensor:
    """Each row twice, next to itself; a single row stays, since the host repeats it anyway."""
    return rows if rows.shape[0] == 1 else rows.repeat_interleave(2, dim=0)


def beside(concept: Tensor, auxiliary: Tensor) -> Tensor:
    """The auxiliary's row next to each of the concept's, both as long as their least common multiple: repeating all
    tokens of a text changes no attention result.
    """
    if concept.ndim == 3:
        length = lcm(concept.shape[1], auxiliary.shape[1])
        concept, auxiliary = (x.repeat(1, length // x.shape[1], 1) for x in (concept, auxiliary))
    return pair(concept, auxiliary)


def doubled_mask(mask: Tensor | None, is_one: bool = False) -> Tensor | None:
    """An inpaint mask for both branches; is_one: the first picture's for every auxiliary."""
    if mask is None or not torch.is_tensor(mask) or mask.ndim < 3 or mask.shape[0] == 1:
        return mask
    return pair(mask, for_all(mask, is_one))
