"""The auxiliary branch's work kept across queues: model calls of auxiliary rows alone, given back when they recur."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from ....dci_core.attention.layers import LayerId
from ....dci_core.dci.dbim import DbimSettings, ObserveWeights, dbim_rule
from ....dci_core.dci.maps import AuxiliaryView, keeping_rule
from ....dci_core.dci.replay import AuxiliaryCall, Halves, Replay, halves
from ....dci_core.dci.row_plan import RowPlan
from ....dci_core.fingerprint import fingerprint
from ....dci_core.text.tokens import PairTokens
from ..attention.joint_rule import with_attention_rule
from ..model_call import ModelCall
from .plan import KEY
from .rows import call_over, chosen_rows, only

log = logging.getLogger(__name__)
REPLAY = Replay()  # main memory, bounded; lives as long as the host
INNER = ("apply_model", "diffusion_model")  # the host's kinds of wrapper that act inside a model call


def can_replay(plan: RowPlan, options: dict[str, Any]) -> bool:
    """Whether the plan's auxiliary rows can run alone: there are some, and no other pack acts in the attention."""
    if not any(row % 2 for row in plan.runs):
        return False
    foreign = any(options.get("patches", {}).values()) or any(options.get("patches_replace", {}).values())
    if foreign:
        log.info("another pack acts in this model's attention, so the auxiliary branch is not replayed")
    return not foreign


def call_in_halves(
    executor: Any,
    call: ModelCall,
    plan: RowPlan,
    dbim: DbimSettings,
    tokens: PairTokens,
    observe: ObserveWeights,
) -> Tensor:
    """x0 of the whole batch: the auxiliary rows' from the replay or from a call of their own, then the concept's."""
    parts, x = halves(plan), call.x
    layers = [layer for layer, share in dbim.shares.items() if share]

    def run(rows: tuple[int, ...], rule: Any) -> Tensor:
        chosen = call_over(call, only(plan, rows))
        if rule is not None:
            size = (int(x.shape[-2]), int(x.shape[-1]))
            chosen = chosen.with_options(with_attention_rule(chosen.options, layers, rule, executor.class_obj, size))
        return chosen.run(executor)

    def compute() -> AuxiliaryCall:
        keep: dict[LayerId, AuxiliaryView] = {}
        how = (tokens.auxiliary, dbim.token_sharpness, x.device)
        rule = keeping_rule(keep, dbim.shares, parts.kept, *how) if parts.kept else None
        return AuxiliaryCall(run(parts.auxiliary, rule), keep)

    other = REPLAY.call(key_of(executor.class_obj, call, plan, parts, dbim, tokens), x.device, compute)
    mine = parts.branches
    rule = dbim_rule(dbim, mine, tokens, x.device, observe, other.views, tuple(x.shape[-2:])) if mine.concept else None
    return parts.merge(plan, x, run(parts.concept, rule), other.x0)


def key_of(
    model: Any,
    call: ModelCall,
    plan: RowPlan,
    parts: Halves,
    dbim: DbimSettings,
    tokens: PairTokens,
) -> str:
    """A hash of all that the auxiliary rows of one call depend on: their inputs, the model with its patches, wrappers
    of other packs, and the layers and words that are read of them.
    """
    wrappers = [
        function
        for kind in INNER
        for key, functions in call.options.get("wrappers", {}).get(kind, {}).items()
        if key != KEY
        for function in functions
    ]
    owner = REPLAY.owner(model, model.diffusion_model, model.model_sampling, *wrappers)
    weights = getattr(model, "current_weight_patches_uuid", None)
    layers = sorted(layer for layer, share in dbim.shares.items() if share)
    rows = chosen_rows(call.inputs(), only(plan, parts.auxiliary))
    return fingerprint(owner, weights, rows, parts.kept, tokens.auxiliary, dbim.token_sharpness, layers)
