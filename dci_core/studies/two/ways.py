"""How two concepts may be drawn in one picture: what is stacked, what is kept apart, where each is heard, DCI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...dci.branches import DciSettings
from ...tiny.defaults import TINY_FLOW_DCI

Sides = Literal["", "own", "swapped"]
Stands = Literal["both", "first", "union"]


@dataclass(frozen=True)
class Way:
    """All that decides a picture besides the pair, its place and the seed; the defaults are plain stacking.

    apart    each concept's key and value changes are taken off the other's words
    common   share of them that stays on words that are nobody's; None: one half
    others   the same on other prompts: the empty and the auxiliary one
    sides    where each is heard: "" everywhere; "own": the first on the left, as captions put it; "swapped": on the
             right, against the caption
    dci      the dual branch, or None
    stands   "both": one auxiliary branch with two stand-ins, each weighed by itself; "first": the first concept alone
             has one, the second stands in both prompts; "union": two stand-ins, weighed as one
    """

    apart: bool = False
    common: float | None = None
    others: float | None = None
    sides: Sides = ""
    dci: DciSettings | None = None
    stands: Stands = "both"

    @property
    def is_plain(self) -> bool:
        """Whether the concepts are only stacked."""
        return not (self.apart or self.sides)


@dataclass(frozen=True)
class Setting:
    """A way under the name it has in a table."""

    name: str
    way: Way


DCI = TINY_FLOW_DCI
STACKED = Setting("stacked", Way())
MASKS = Setting("masks alone", Way(sides="own"))
FOCUS = Setting("stacked, DCI on the first", Way(dci=DCI, stands="first"))
APART = Setting("apart", Way(apart=True))
APART_DCI = Setting("apart, DCI", Way(apart=True, dci=DCI))
APART_MASKS = Setting("apart, masks", Way(apart=True, sides="own"))
WHOLE = Setting("apart, masks, DCI", Way(apart=True, sides="own", dci=DCI))
REPORTED = (STACKED, FOCUS, MASKS, APART, APART_DCI, APART_MASKS, WHOLE)
SWAPPED = (
    Setting("swapped: stacked, masks", Way(sides="swapped")),
    Setting("swapped: apart, masks, DCI", Way(apart=True, sides="swapped", dci=DCI)),
)
TRIED = (  # on development pairs, from which the rule was chosen
    STACKED,
    MASKS,
    Setting("apart, common words get both", Way(apart=True, common=1.0, others=1.0)),
    Setting("apart, common words get none", Way(apart=True, common=0.0, others=0.0)),
    APART,
    APART_DCI,
    Setting("apart, DCI, two stand-ins as one", Way(apart=True, dci=DCI, stands="union")),
    APART_MASKS,
    WHOLE,
)
