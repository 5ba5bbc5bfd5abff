"""Which rows of a model call run: the one planner, for the core's own batches and for those a host puts together.

A batch is `(chunk b branch)`: chunks are the guidance's prompts, the branch is the last axis. Each row has a tag, its
branch and its kind of text, so that nothing hangs on the order or the number of the chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..indices import indices_on
from .maps import BranchRows

Guidance = Literal["shared", "separate", "aligned"]
CONCEPT, AUXILIARY = 1, 2  # first number of a tag: the row's branch
PAIRED, FREE, COMMON = 1, 2, 3  # second number: the pair's own text, other text, text that both branches may share
Tag = tuple[int, int]


@dataclass(frozen=True)
class RowPlan:
    """Which rows of a `(chunk b branch)` batch run, and where the rest comes from.

    num_rows  rows of the whole batch
    runs      those that the model computes, rising
    branches  the concept and auxiliary rows that DBIM joins, counted among those that run; empty when it does not act
    borrows   (row, from): auxiliary rows that take the estimate of noise of another row instead of running
    """

    num_rows: int
    runs: tuple[int, ...]
    branches: BranchRows
    borrows: tuple[tuple[int, int], ...]

    def take(self, batch: Tensor) -> Tensor:
        """The rows that run, of anything that has a row for each of the batch."""
        return batch if len(self.runs) == self.num_rows else batch.index_select(0, indices_on(self.runs, batch.device))

    def fill(self, x: Tensor, x0: Tensor, moves: float = 1.0) -> Tensor:
        """Predictions for the whole batch from those of the rows that ran, both as x0 in the scale of x.

        x      [(chunk b branch) c h w], the whole batch's noisy latents
        x0     [rows c h w], what the model gave for `take(x)`
        moves  how far a borrowed estimate moves with the latent (`stability.spring_share`)
        A row that did not run returns its input; a borrowed one is x0 of the other latent, moved by y - x, since both
        have the same estimate of noise. Where both latents are the same, so are the bits.
        """
        if len(self.runs) == self.num_rows:
            return x0
        full = x.index_copy(0, indices_on(self.runs, x.device), x0)
        if not self.borrows:
            return full
        rows, sources = (indices_on(part, x.device) for part in zip(*self.borrows, strict=True))
        apart = x.index_select(0, rows) - x.index_select(0, sources)
        moved = full.index_select(0, sources) + (apart if moves == 1 else apart * moves)
        return full.index_copy(0, rows, moved)


def tags_of(is_cond: Sequence[bool], num_pictures: int) -> list[Tag]:
    """Tags of a batch whose chunks are conditional (the pair's own text) or not (text that both branches may share)."""
    kinds = [PAIRED if cond else COMMON for cond in is_cond]
    return [(branch, kind) for kind in kinds for _ in range(num_pictures) for branch in (CONCEPT, AUXILIARY)]


def rows_of_pair(tags: Sequence[Tag], plan: RowPlan) -> BranchRows:
    """Rows with either text of the pair among those that run, whether or not DBIM joins them."""
    there = [tags[row] for row in plan.runs]
    concept, auxiliary = (
        tuple(i for i, tag in enumerate(there) if tag == (branch, PAIRED)) for branch in (CONCEPT, AUXILIARY)
    )
    return BranchRows(concept, auxiliary)


def plan_rows(
    tags: Sequence[Tag], *, acts: bool, guidance: Guidance, num_chunks: int = 1, one_auxiliary: bool = False
) -> RowPlan:
    """What runs: concept rows always, auxiliary rows in the window, common auxiliary rows unless they are shared.

    tags           (branch, kind) of each row of a `(chunk b branch)` batch
    acts           whether the window is open
    num_chunks     prompts in the batch
    one_auxiliary  the first picture's auxiliary row of each chunk runs for all, whose latents must be the same
    """
    size = len(tags) // max(num_chunks, 1)
    auxiliary = [i for i, (branch, _) in enumerate(tags) if acts and branch == AUXILIARY]
    sources = {i: i - i % size + 1 if one_auxiliary else i for i in auxiliary}
    sources |= {i: i - 1 for i in auxiliary if guidance == "shared" and tags[i][1] == COMMON}
    runs = [i for i, (branch, _) in enumerate(tags) if branch == CONCEPT or sources.get(i) == i]
    place = {row: index for index, row in enumerate(runs)}
    pairs = [i for i, tag in enumerate(tags) if acts and tag == (CONCEPT, PAIRED)]
    branches = BranchRows(tuple(place[i] for i in pairs), tuple(place[sources[i + 1]] for i in pairs))
    return RowPlan(len(tags), tuple(runs), branches, tuple((i, of) for i, of in sources.items() if i != of))
