"""The rows of a host's model call that run, taken from all that the host hands over. Knows tensors, not the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ....dci_core.dci.row_plan import RowPlan
from ..model_call import ModelCall


def only(plan: RowPlan, rows: tuple[int, ...]) -> RowPlan:
    """The same batch with other rows running."""
    return replace(plan, runs=rows)


def call_over(call: ModelCall, plan: RowPlan) -> ModelCall:
    """The call over the rows that run."""
    chosen = call.over(lambda value: chosen_rows(value, plan))
    return chosen.with_options(options_for(call.options, plan))


def options_for(options: dict[str, Any], plan: RowPlan) -> dict[str, Any]:
    """Transformer options whose lists of chunks fit the rows that run, for other packs' patches that read them."""
    lists = {key: chunks_of(options[key], plan) for key in ("cond_or_uncond", "uuids") if options.get(key)}
    return {**options, **lists}


def chosen_rows(value: Any, plan: RowPlan) -> Any:
    """The rows that run, of every batch-sized tensor in a nest of lists and dicts; anything else as it is."""
    if isinstance(value, Tensor):
        return plan.take(value) if value.ndim and value.shape[0] == plan.num_rows else value
    if isinstance(value, dict):
        return {key: chosen_rows(item, plan) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(chosen_rows(item, plan) for item in value)
    return value


def chunks_of(chunks: Sequence[Any], plan: RowPlan) -> list[Any]:
    """The host's per-chunk list for the rows that run: as it was while chunks stay equal, else one entry a row."""
    size = plan.num_rows // len(chunks)
    owners = [row // size for row in plan.runs]
    counts = {owners.count(index) for index in range(len(chunks))}
    return list(chunks) if len(counts) == 1 else [chunks[owner] for owner in owners]
