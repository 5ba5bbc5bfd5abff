"""What a study is: the ground it stands on, and how many concepts, prompts and seeds it asks. Data in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...dci.run import SampleSettings
from ...errors import BadSettings
from ...ico.settings import IcoSettings
from ...tiny.defaults import TINY_ICO, TINY_SAMPLE
from ...tiny.world.concepts import CONCEPTS, SEEN
from .dials import Way

PROMPTS = tuple(range(8))
LOW_PRIOR = (4, 5, 6, 7)  # of the eight prompts that `trial.asks_for` makes
TEST = tuple(c.number for c in CONCEPTS if not c.is_development)
MORE_TEST = (*TEST, *(c.number for c in SEEN))
DEVELOPMENT = tuple(c.number for c in CONCEPTS if c.is_development)


@dataclass(frozen=True)
class Training:
    """How a concept is trained; `ico.steps` says nothing here, steps are named where a checkpoint is asked for."""

    kind: str
    ico: IcoSettings


@dataclass(frozen=True)
class Ground:
    """The training that every dial starts from, chosen on development concepts and plain sampling alone.

    kind     of the reference pictures, "varied" or "home"
    earlier  checkpoints before the dials' own, rising: the checkpoint dial
    main     the dials' own checkpoint, in steps
    later    checkpoints after it, to see overfitting
    """

    kind: str
    ico: IcoSettings
    earlier: tuple[int, ...]
    main: int
    later: tuple[int, ...]

    @property
    def training(self) -> Training:
        """Kind and settings."""
        return Training(self.kind, self.ico)

    @property
    def steps(self) -> tuple[int, ...]:
        """Every checkpoint, rising."""
        return (*self.earlier, self.main, *self.later)


GROUND = Ground("home", TINY_ICO, earlier=(40, 70, 100, 130), main=160, later=(240,))


@dataclass(frozen=True)
class Panel:
    """Who is asked what: numbers of concepts, of their prompts, and seeds; the same noise for every method."""

    concepts: tuple[int, ...]
    seeds: tuple[int, ...]
    prompts: tuple[int, ...] = PROMPTS

    def with_seeds(self, count: int) -> Panel:
        """At most so many seeds; raises BadSettings."""
        return replace(self, seeds=self.seeds[: asked_for(count, "seeds", 64)])

    def with_concepts(self, count: int, most: int = len(TEST)) -> Panel:
        """At most so many concepts, of `most`; raises BadSettings."""
        return replace(self, concepts=self.concepts[: asked_for(count, "concepts", most)])


def asked_for(count: int, what: str, most: int) -> int:
    """The count; raises BadSettings where it is none of 1 to `most`."""
    if not 1 <= count <= most:
        raise BadSettings(f"{count} {what} were asked for", f"1 to {most} were expected", f"change --{what}")
    return count


@dataclass(frozen=True)
class Size:
    """How large a study is.

    dials     inference: frontiers and controls
    curve     training: ICO and fixed templates along the run
    variants  training: contexts, positions, priors, kinds of reference pictures
    anatomy   layers, windows, guidance, gain, nouns
    judge     the judge on the model's own pictures
    candidates  the dials' wider grids, on development concepts
    sample    plain sampling
    step_counts  at which windows are tried
    """

    name: str
    dials: Panel
    curve: Panel
    variants: Panel
    anatomy: Panel
    judge: Panel
    candidates: Panel
    sample: SampleSettings = TINY_SAMPLE
    step_counts: tuple[int, ...] = (10, 20, 50)

    @property
    def plain(self) -> Way:
        """Plain sampling, from which every dial starts."""
        return Way(self.sample)

    def with_seeds(self, count: int) -> Size:
        """The size with at most so many seeds everywhere; raises BadSettings."""
        return self._each(lambda panel: panel.with_seeds(count))

    def with_concepts(self, count: int) -> Size:
        """The size with at most so many concepts everywhere; raises BadSettings."""
        most = max(len(TEST), len(self.dials.concepts))
        return self._each(lambda panel: panel.with_concepts(count, most))

    def _each(self, change: Callable[[Panel], Panel]) -> Size:
        return replace(
            self,
            dials=change(self.dials),
            curve=change(self.curve),
            variants=change(self.variants),
            anatomy=change(self.anatomy),
            judge=change(self.judge),
            candidates=change(self.candidates),
        )


def seeds(number: int) -> tuple[int, ...]:
    """The first seeds."""
    return tuple(range(number))


QUICK = Size(
    "quick",
    dials=Panel(TEST[:3], seeds(1)),
    curve=Panel(TEST[:2], seeds(1)),
    variants=Panel(TEST[:1], seeds(1)),
    anatomy=Panel(TEST[:1], seeds(1)),
    judge=Panel(TEST[:3], seeds(1)),
    candidates=Panel(DEVELOPMENT[:2], seeds(1)),
)
FULL = Size(
    "full",
    dials=Panel(TEST, seeds(8)),
    curve=Panel(TEST, seeds(4)),
    variants=Panel(TEST[:4], seeds(4)),
    anatomy=Panel(TEST[:4], seeds(1)),
    judge=Panel(TEST, seeds(4)),
    candidates=Panel(DEVELOPMENT, seeds(4)),
)
MANY = replace(QUICK, name="many", dials=Panel(MORE_TEST, seeds(1)))
SIZES = {"quick": QUICK, "full": FULL, "many": MANY}
