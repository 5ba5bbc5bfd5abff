"""What a model with image prompts is told, and what it writes down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ....dci_core.attention.joint import BlockId
from ....dci_core.dynaip.decoupled import ObserveReading
from ....dci_core.dynaip.subject import Subject
from ..page.once import Once
from .adapters import HostAdapter
from .nouns import NounPlaces

log = logging.getLogger(__name__)
KEY = "ico_dynaip"  # of our wrappers and of what a patched model carries


@dataclass(frozen=True, eq=False)
class HeldReference:
    """One subject on a model.

    adapter  a `HostAdapter`, which gives keys and values
    tokens   [1 m c] on the CPU, what the adapter made of the subject's pictures
    subject  how, where and when it is read
    noun     where its noun stands, if the model itself is to say where the subject is
    """

    adapter: HostAdapter
    tokens: Tensor
    subject: Subject
    noun: NounPlaces | None = None


@dataclass(eq=False)
class ReadingRecord:
    """How strongly each image row read each subject in the last run; filled while it samples.

    strengths     (sigma, block, number of the subject from 0) -> [b h w], length of what the rows got
    current_call  the same of the model call that is running
    warnings      what the user should know of this run
    on_warning    called with the record when it gets one
    once          what the log was told
    """

    strengths: dict[tuple[float, BlockId, int], Tensor] = field(default_factory=dict)
    current_call: list[tuple[BlockId, int, Tensor]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    on_warning: Callable[[ReadingRecord], None] | None = None
    once: Once = field(default_factory=Once)

    def clear(self) -> None:
        """Forgets the run before."""
        self.strengths.clear()
        self.current_call.clear()
        self.warnings.clear()

    def warn(self, sentence: str) -> None:
        """Keeps a sentence, says it in the log and to whoever listens; once in a run."""
        if sentence in self.warnings:
            return
        self.warnings.append(sentence)
        if self.once.is_new(sentence):
            log.warning(sentence)
        if self.on_warning is not None:
            self.on_warning(self)

    def observer(self, numbers: Sequence[int]) -> ObserveReading:
        """What a rule over these subjects shows its readings to."""

        def see(block: BlockId, index: int, strength: Tensor, grid: tuple[int, int]) -> None:
            self.current_call.append((block, numbers[index], strength.unflatten(-1, grid)))

        return see

    def file(self, sigma: float) -> None:
        """Puts away what the model call at this noise level showed."""
        self.strengths.update(((sigma, block, number), planes) for block, number, planes in self.current_call)
        self.current_call.clear()

    def settle(self) -> None:
        """Moves what was seen off the accelerator."""
        self.strengths = {key: planes.float().cpu() for key, planes in self.strengths.items()}
