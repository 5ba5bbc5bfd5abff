"""Tags of rows, carried through the host's batching as plain numbers: reading them never waits for a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ....dci_core.dci.row_plan import AUXILIARY, CONCEPT, Tag

NAME = "ico_dci_tag"  # keyword of the model call that carries each row's tag


class RowTag(NamedTuple):
    """What one row of a model call is.

    branch, kind  as the row plan has them
    area          (height, width, y, x) in latent pixels of the picture that the row shows, or None: all of it
    """

    branch: int
    kind: int
    area: tuple[int, ...] | None = None


class RowTags:
    """A conditioning's tags, one for each of its rows, as the host's batching takes conditionings."""

    def __init__(self, cond: Sequence[RowTag]) -> None:
        self.cond = tuple(cond)

    def process_cond(self, batch_size: int, area: Sequence[int] | None = None, **kwargs: Any) -> RowTags:
        """One tag for each of so many rows, over again as often as it takes, all of this area."""
        place = None if area is None else tuple(area)
        repeated = (self.cond * -(-batch_size // len(self.cond)))[:batch_size]
        return RowTags([tag._replace(area=place) for tag in repeated])

    def can_concat(self, other: Any) -> bool:
        """Whether both may stand in one batch: rows of any tags may."""
        return isinstance(other, RowTags)

    def concat(self, others: Sequence[RowTags]) -> tuple[RowTag, ...]:
        """The tags of a whole batch."""
        return sum((other.cond for other in others), self.cond)

    def size(self) -> list[int]:
        """A shape for the host's estimate of memory: next to nothing."""
        return [1]


def tags_of_kind(kind: int) -> RowTags:
    """Tags of a conditioning that both branches have."""
    return RowTags([RowTag(CONCEPT, kind), RowTag(AUXILIARY, kind)])


def plain(tags: Sequence[RowTag]) -> list[Tag]:
    """The tags as the row plan has them."""
    return [(tag.branch, tag.kind) for tag in tags]
