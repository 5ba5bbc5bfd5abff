"""What the auxiliary branch's calls of a step leave for the concept's calls of the same step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from ....dci_core.attention.layers import LayerId
from ....dci_core.dci.maps import AuxiliaryView

Views = dict[LayerId, AuxiliaryView]


class StepViews:
    """Views of the auxiliary branch by the conditioning of the concept that reads them.

    A conditioning that runs in several calls, as tiles and windows do, finds its views in the order in which the
    auxiliary's calls left them; a guest that runs it again starts from the front.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[Views]] = {}
        self._taken: dict[Hashable, int] = {}

    def clear(self) -> None:
        """Forgets the step before."""
        self._kept.clear()
        self._taken.clear()

    def known(self) -> set[Hashable]:
        """Conditionings that have views."""
        return set(self._kept)

    def keep(self, views: Views, chunks: Sequence[Hashable]) -> None:
        """Puts away what one call left, whose rows are `(chunk b)`."""
        for place, chunk in enumerate(chunks):
            parts = {
                layer: AuxiliaryView(*(rows.chunk(len(chunks))[place] for rows in (view.out, view.noun)))
                for layer, view in views.items()
            }
            self._kept.setdefault(chunk, []).append(parts)

    def take(self, chunks: Sequence[Hashable]) -> Views:
        """What the next call of these conditionings reads, rows `(chunk b)`."""
        parts = [self._next(chunk) for chunk in chunks]
        if len(parts) == 1:
            return parts[0]
        return {layer: joined([part[layer] for part in parts]) for layer in parts[0]}

    def _next(self, chunk: Hashable) -> Views:
        number = self._taken.get(chunk, 0)
        self._taken[chunk] = number + 1
        return self._kept[chunk][number % len(self._kept[chunk])]


def joined(views: Sequence[AuxiliaryView]) -> AuxiliaryView:
    """Views of several conditionings as those of one batch."""
    return AuxiliaryView(torch.cat([view.out for view in views]), torch.cat([view.noun for view in views]))
