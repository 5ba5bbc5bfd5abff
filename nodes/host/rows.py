"""Which rows of a model call run, and how the others are filled. Knows tensors, not the host.

Rows are `(chunk b branch)`: each conditioning chunk holds, picture by picture, the concept's row and the auxiliary's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ...dci_core.dbim import BranchRows

CONCEPT, AUXILIARY = 1, 2  # first column of a row's tag: its branch
PAIRED, FREE, COMMON = 1, 2, 3  # second column: the pair's own text, other text, text whose prediction both may share


def paired(concept: Tensor, auxiliary: Tensor) -> Tensor:
    """Two batches as one with the branch as its innermost batch axis, [(b branch) ...]."""
    return rearrange([concept, auxiliary], "branch b ... -> (b branch) ...")


def concept_of(both: Tensor) -> Tensor:
    """The concept's rows of a paired batch, [b ...]."""
    return rearrange(both, "(b branch) ... -> branch b ...", branch=2)[0]


def auxiliary_of(both: Tensor) -> Tensor:
    """The auxiliary's rows of a paired batch, [b ...]."""
    return rearrange(both, "(b branch) ... -> branch b ...", branch=2)[1]


def tag_of(kind: int) -> Tensor:
    """The two tag rows [branch 2] that a conditioning of this kind carries through the host's batching."""
    return torch.tensor([[CONCEPT, kind], [AUXILIARY, kind]])


@dataclass(frozen=True)
class RowPlan:
    """Rows of one model call.

    run       rows that reach the model, in order
    waiting   rows that do not
    branches  where the pair's rows lie among those that run
    is_open   whether the window is open; a waiting row is then filled from the row before it, else from its own input
    """

    run: tuple[int, ...]
    waiting: tuple[int, ...]
    branches: BranchRows
    is_open: bool

    def fill(self, x: Tensor, ran: Tensor) -> Tensor:
        """x0 of every row from x0 of those that ran.

        With shared guidance the auxiliary's unconditional noise is the concept's: x0_u(y) = x0_u(x) + (y - x).
        A closed branch stands still: x0 = y.
        """
        out = x.to(ran.dtype, copy=True)
        out[list(self.run)] = ran
        if self.is_open and self.waiting:
            waiting = list(self.waiting)
            before = [row - 1 for row in waiting]
            out[waiting] = out[before] + (x[waiting] - x[before]).to(ran.dtype)
        return out


def plan_rows(tags: Sequence[tuple[int, int]], *, is_open: bool, is_shared: bool) -> RowPlan:
    """What runs: concept rows always, auxiliary rows in the window, common auxiliary rows unless they are shared."""

    def runs(branch: int, kind: int) -> bool:
        return branch != AUXILIARY or (is_open and not (is_shared and kind == COMMON))

    run = tuple(row for row, tag in enumerate(tags) if runs(*tag))
    waiting = tuple(row for row, tag in enumerate(tags) if not runs(*tag))
    place = {row: index for index, row in enumerate(run)}
    pairs = [row for row, tag in enumerate(tags) if tag == (CONCEPT, PAIRED)] if is_open else []
    branches = BranchRows(tuple(place[row] for row in pairs), tuple(place[row + 1] for row in pairs))
    return RowPlan(run, waiting, branches, is_open)


def chosen_rows(value: Any, rows: Sequence[int], num_rows: int) -> Any:
    """The rows of every batch-sized tensor in a nest of lists and dicts; anything else as it is."""
    if isinstance(value, Tensor):
        return value[list(rows)] if value.ndim and value.shape[0] == num_rows else value
    if isinstance(value, dict):
        return {key: chosen_rows(item, rows, num_rows) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(chosen_rows(item, rows, num_rows) for item in value)
    return value


def chunks_of_rows(chunks: Sequence[Any], rows: Sequence[int], num_rows: int) -> list[Any]:
    """The host's per-chunk list for the chosen rows: as it was while chunks stay equal, else one entry a row."""
    size = num_rows // len(chunks)
    owners = [row // size for row in rows]
    counts = {owners.count(index) for index in range(len(chunks))}
    return list(chunks) if len(counts) == 1 else [chunks[owner] for owner in owners]
