"""Which rows of a host's model call run. Knows tensors, not the host.

Every conditioning carries a tag through the host's batching, two numbers a row, so that nothing hangs on the order or
the number of the chunks that the host happens to put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....dci_core.dci.branches import RowPlan
from ....dci_core.dci.maps import BranchRows

CONCEPT, AUXILIARY = 1, 2  # first number: the row's branch
PAIRED, FREE, COMMON = 1, 2, 3  # second number: the pair's own text, other text, text that both branches may share


def tag_of(kind: int) -> Tensor:
    """The tag rows [branch 2] of a conditioning of this kind."""
    return torch.tensor([[CONCEPT, kind], [AUXILIARY, kind]])


def plan_of(
    tags: Sequence[tuple[int, int]], *, acts: bool, is_shared: bool, num_chunks: int = 1, is_one: bool = False
) -> RowPlan:
    """What runs: concept rows always, auxiliary rows in the window, common auxiliary rows unless they are shared.

    tags        (branch, kind) of each row of a `(chunk b branch)` batch
    num_chunks  conditionings in the batch
    is_one      the first picture's auxiliary row of each chunk runs for all
    """
    size = len(tags) // max(num_chunks, 1)
    auxiliary = [i for i, (branch, _) in enumerate(tags) if acts and branch == AUXILIARY]
    sources = {i: i - i % size + 1 if is_one else i for i in auxiliary}
    sources |= {i: i - 1 for i in auxiliary if is_shared and tags[i][1] == COMMON}
    runs = [i for i, (branch, _) in enumerate(tags) if branch == CONCEPT or sources.get(i) == i]
    place = {row: index for index, row in enumerate(runs)}
    pairs = [i for i, tag in enumerate(tags) if acts and tag == (CONCEPT, PAIRED)]
    branches = BranchRows(tuple(place[i] for i in pairs), tuple(place[sources[i + 1]] for i in pairs))
    return RowPlan(len(tags), tuple(runs), branches, tuple((i, of) for i, of in sources.items() if i != of))


def only(plan: RowPlan, rows: tuple[int, ...]) -> RowPlan:
    """The same batch with other rows running."""
    return replace(plan, runs=rows)


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
