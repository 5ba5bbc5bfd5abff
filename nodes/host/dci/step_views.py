"""What the auxiliary branch's calls of a step leave for the concept's calls of the same step."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from ....dci_core.attention.layers import LayerId
from ....dci_core.dci.maps import AuxiliaryView

Views = dict[LayerId, AuxiliaryView]
Shown = tuple[int, ...]


class StepViews:
    """Views of the auxiliary branch by the conditioning of the concept that reads them.

    A conditioning that runs in several calls, as tiles and windows do, finds its views in the order in which the
    auxiliary's calls left them; a guest that runs it again starts from the front. Calls are told apart by what they
    show, (height, width) in latent pixels: a guest that runs a conditioning on a crop of its own finds nothing.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Hashable, Shown], list[Views]] = {}
        self._taken: dict[tuple[Hashable, Shown], int] = {}

    def clear(self) -> None:
        """Forgets the step before."""
        self._kept.clear()
        self._taken.clear()

    def known(self, shown: Shown) -> set[Hashable]:
        """Conditionings that have views of calls that show as much."""
        return {chunk for chunk, size in self._kept if size == shown}

    def keep(self, views: Views, chunks: Sequence[Hashable], shown: Shown) -> None:
        """Puts away what one call left, whose rows are `(chunk b)`."""
        for place, chunk in enumerate(chunks):
            parts = {
                layer: AuxiliaryView(*(rows.chunk(len(chunks))[place] for rows in (view.out, view.noun)))
                for layer, view in views.items()
            }
            self._kept.setdefault((chunk, shown), []).append(parts)

    def take(self, chunks: Sequence[Hashable], shown: Shown) -> Views:
        """What the next call of these conditionings reads, rows `(chunk b)`."""
        parts = [self._next((chunk, shown)) for chunk in chunks]
        if len(parts) == 1:
            return parts[0]
        return {layer: joined([part[layer] for part in parts]) for layer in parts[0]}

    def _next(self, whose: tuple[Hashable, Shown]) -> Views:
        number = self._taken.get(whose, 0)
        self._taken[whose] = number + 1
        return self._kept[whose][number % len(self._kept[whose])]


def joined(views: Sequence[AuxiliaryView]) -> AuxiliaryView:
    """Views of several conditionings as those of one batch."""
    return AuxiliaryView(torch.cat([view.out for view in views]), torch.cat([view.noun for view in views]))
