"""What the study on the small flow world asks, and of whom; the split of the objects is the first study's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...dci.run import SampleSettings
from ...tiny.defaults import TINY_FLOW_ICO, TINY_FLOW_SAMPLE
from ..dci.dials import Way
from ..dci.protocol import TEST, Ground, Panel, seeds

CANDIDATES = (1, 3, 6, 7)  # of the eight development objects, so that choosing takes minutes
GROUND = Ground("home", TINY_FLOW_ICO, earlier=(40, 80, 100, 120), main=160, later=())
CONFLICT = (0.3, 0.7)  # gate 1: share of low-prior pictures that plain sampling gets right on a fair ground
TEN_STEPS = replace(TINY_FLOW_SAMPLE, num_steps=10)  # half the cost of the usual 20, and their pictures


@dataclass(frozen=True)
class FlowSize:
    """How large a study is.

    dials       plain sampling, every dial and the controls, on test objects
    candidates  what DCI's defaults are chosen from, on development objects
    gate_seeds  pictures of each prompt of the base's gates
    sample      plain sampling
    """

    name: str
    dials: Panel
    candidates: Panel
    gate_seeds: tuple[int, ...] = (0,)
    sample: SampleSettings = TEN_STEPS

    @property
    def plain(self) -> Way:
        """Plain sampling, from which every dial starts."""
        return Way(self.sample)

    def with_seeds(self, count: int) -> FlowSize:
        """The size with at most so many seeds everywhere; raises BadSettings."""
        return replace(self, dials=self.dials.with_seeds(count), candidates=self.candidates.with_seeds(count))

    def with_concepts(self, count: int) -> FlowSize:
        """The size with at most so many concepts everywhere; raises BadSettings."""
        return replace(self, dials=self.dials.with_concepts(count), candidates=self.candidates.with_concepts(count))


QUICK = FlowSize("quick", Panel(TEST[:2], seeds(1)), Panel(CANDIDATES[:2], seeds(1)))
FULL = FlowSize("full", Panel(TEST, seeds(1)), Panel(CANDIDATES, seeds(1)))
SIZES = {"quick": QUICK, "full": FULL}
