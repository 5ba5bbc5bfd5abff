"""Takes the rotary position embedding off queries that a host shows only with it on, and puts it on again."""

from __future__ import annotations

from torch import Tensor


def before_rotary(q: Tensor, pe: Tensor | None) -> Tensor:
    """The queries as they were before the rotary embedding; exact to rounding, since a rotation's inverse is its
    transpose.

    q   [b heads n d], after it
    pe  [b 1 n d/2 2 2] or [b n 1 d/2 2 2], a rotation matrix for each pair of channels; None: there was none
    """
    if pe is None:
        return q
    turns = (pe if pe.shape[1] == 1 else pe.transpose(1, 2))[:, :, : q.shape[2]]
    pairs = q.to(turns.dtype).unflatten(-1, (-1, 2))
    back = turns[..., 0, :] * pairs[..., :1] + turns[..., 1, :] * pairs[..., 1:]
    return back.flatten(-2).to(q.dtype)


def after_rotary(q: Tensor, pe: Tensor | None) -> Tensor:
    """Queries or keys with the rotary embedding; arguments as for `before_rotary`. Gradients pass."""
    if pe is None:
        return q
    turns = (pe if pe.shape[1] == 1 else pe.transpose(1, 2))[:, :, : q.shape[2]]
    pairs = q.to(turns.dtype).unflatten(-1, (-1, 2))
    turned = turns[..., 0] * pairs[..., :1] + turns[..., 1] * pairs[..., 1:]
    return turned.flatten(-2).to(q.dtype)
