"""A training between two updates: what is learned, its moving average, the optimiser, the number of updates."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...ico.state import FUSED_DEVICES
from ..adapter import Adapter, AdapterParams
from ..adapter_file import check_family
from .base import FlowBase
from .crew import Crew, fill, local, whole
from .lesson import Lesson
from .pairs import PairSource
from .settings import AdapterSettings, check_settings

RECENT = 100  # losses that are remembered


@dataclass
class AdapterTraining:
    """`checkpoint.save_training` writes it, `checkpoint.load_training` restores it.

    There is no random state and no place in the data to keep: both follow from the seed and the row's number.

    base, data  fingerprints
    adapter     the learned parameters, perhaps sharded; only in `lesson` may it be used
    lesson      what accelerate made of the adapter in its base
    average     moving average of every parameter, sharded as the parameters are
    """

    settings: AdapterSettings
    base: str
    data: str
    adapter: Adapter
    lesson: nn.Module
    optimiser: torch.optim.AdamW
    average: dict[str, Tensor]
    step: int = 0
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def learned(self) -> dict[str, nn.Parameter]:
        """Every trained parameter under its name."""
        return dict(self.adapter.named_parameters())

    @property
    def loss(self) -> float:
        """Mean of the last losses; 0 before the first."""
        return sum(self.losses) / max(1, len(self.losses))


def begin_training(
    base: FlowBase, adapter: Adapter, source: PairSource, settings: AdapterSettings, crew: Crew
) -> AdapterTraining:
    """A training at step 0; raises BadSettings, and BadAdapter for an adapter of another family than the base's.

    The adapter must have the same weights in every process.
    """
    check_settings(settings, crew.count)
    check_family(adapter.params, base.family)
    adapter = adapter.float().to(crew.device).requires_grad_(True)
    parameters = list(adapter.parameters())
    is_fused = all(p.device.type in FUSED_DEVICES for p in parameters)
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.rate, weight_decay=settings.weight_decay, fused=is_fused or None
    )
    lesson, optimiser = crew.prepare(Lesson(adapter, base), optimiser)
    average = {name: p.detach().clone() for name, p in adapter.named_parameters()}
    return AdapterTraining(settings, base.fingerprint(), source.fingerprint(), adapter, lesson, optimiser, average)


def new_adapter(params: AdapterParams, seed: int) -> Adapter:
    """An untrained adapter; the same seed gives the same one, and the global random state is left alone."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return Adapter(params)


def follow(training: AdapterTraining) -> None:
    """Moves the average towards the parameters; at first faster than `ema` says, so that the start is forgotten."""
    keep = min(training.settings.ema, (1 + training.step) / (10 + training.step))
    parts = [(local(training.average[name]), local(p.detach())) for name, p in training.learned.items()]
    torch._foreach_lerp_([part[0] for part in parts], [part[1] for part in parts], 1 - keep)


def averaged(training: AdapterTraining) -> Adapter:
    """The moving average as an adapter of its own, frozen. Every process must ask."""
    values = {name: whole(x) for name, x in training.average.items()}
    adapter = new_adapter(training.adapter.params, 0).to(next(iter(values.values())).device)
    for name, parameter in adapter.named_parameters():
        fill(parameter, values[name])
    return adapter.eval().requires_grad_(False)
