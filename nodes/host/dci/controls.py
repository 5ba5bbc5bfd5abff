"""ControlNets with a branch axis: hints for both branches, computed for the rows that need them and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ....dci_core.dci.row_plan import AUXILIARY, CONCEPT, RowPlan
from ....dci_core.indices import indices_on
from .conds import doubled
from .levels import sigma_of
from .rows import chosen_rows
from .tags import NAME, plain

OPTIONS = "transformer_options"
Tags = Sequence[tuple[int, int]]
REACH = {"both": (CONCEPT, AUXILIARY), "concept": (CONCEPT,), "auxiliary": (AUXILIARY,)}


def branch_controls(plan_at: Callable[[Tags, int, float], RowPlan], hints: str) -> Callable[[Any], Any]:
    """What makes a ControlNet serve both branches: one copy for each that comes, the host's own stays as it is.

    plan_at  the rows that run, from their tags, the number of chunks and the noise
    hints    which branch it acts on: both, concept or auxiliary
    """
    seen: dict[int, Any] = {}

    def branched(control: Any) -> Any:
        if id(control) not in seen:
            mine = seen[id(control)] = doubled_hints(control)
            mine.get_control = for_rows(mine.get_control, plan_at, REACH[hints], has_own_hints(mine))
        return seen[id(control)]

    return branched


def doubled_hints(control: Any) -> Any:
    """A copy of a ControlNet and those before it; hints of which each picture has its own are there twice."""
    mine = control.copy()
    hint = getattr(mine, "cond_hint_original", None)
    if isinstance(hint, Tensor):
        mine.cond_hint_original = doubled(hint)
    if control.previous_controlnet is not None:
        mine.set_previous_controlnet(doubled_hints(control.previous_controlnet))
    return mine


def has_own_hints(control: Any) -> bool:
    """Whether pictures of a batch have hints of their own, here or in a ControlNet before."""
    hint, before = getattr(control, "cond_hint_original", None), control.previous_controlnet
    return (isinstance(hint, Tensor) and hint.shape[0] > 1) or (before is not None and has_own_hints(before))


def for_rows(
    get_control: Callable[..., Any],
    plan_at: Callable[[Tags, int, float], RowPlan],
    reach: Sequence[int],
    takes_all: bool,
) -> Callable[..., Any]:
    """The host's `get_control`, asked for the rows alone that run and that it acts on; the others get nothing.

    takes_all  ask for every row all the same, since each has its own hint; the others still get nothing
    """

    def get(x_noisy: Tensor, t: Tensor, cond: dict[str, Any], batched_number: int, *args: Any, **kwargs: Any) -> Any:
        tags = plain(cond.get(NAME, ()))
        if len(tags) != x_noisy.shape[0]:
            return get_control(x_noisy, t, cond, batched_number, *args, **kwargs)
        plan = plan_at(tags, batched_number, sigma_of(t))
        rows = tuple(row for row in plan.runs if tags[row][0] in reach)
        if not rows:
            return None
        asked = replace(plan, runs=tuple(range(len(tags))) if takes_all else rows)
        texts = {name: value for name, value in cond.items() if name not in (OPTIONS, NAME)}  # those hold no rows
        x, t, texts = chosen_rows([x_noisy, t, texts], asked)
        number = batched_number if takes_all else len(rows)
        control = get_control(x, t, {**cond, **texts}, number, *args, **kwargs)
        return spread(control, asked.runs, rows, len(tags))

    return get


def spread(control: Any, have: tuple[int, ...], rows: tuple[int, ...], num_rows: int) -> Any:
    """Residuals for all rows from those that were computed, zero where the hint does not act.

    have  rows that were computed; a residual of one row holds for all of them
    """
    if control is None:
        return None

    def full(residual: Tensor | None) -> Tensor | None:
        if residual is None:
            return None
        own = residual.expand(len(have), *residual.shape[1:])
        places = indices_on(tuple(have.index(row) for row in rows), residual.device)
        empty = residual.new_zeros(num_rows, *residual.shape[1:])
        return empty.index_copy(0, indices_on(rows, residual.device), own.index_select(0, places))

    return {name: [full(residual) for residual in residuals] for name, residuals in control.items()}
