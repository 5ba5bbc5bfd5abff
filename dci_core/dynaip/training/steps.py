"""Adapter training as a generator: it may be left at any report, with everything to save at hand."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ...errors import BadSettings, TrainingDiverged
from .base import FlowBase
from .crew import Crew
from .lesson import make_batch
from .pairs import Pair, PairSource, batches
from .state import AdapterTraining, follow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterReport:
    """One finished update.

    step      finished updates, of `steps`
    loss      of all rows of all processes
    shares    mean weight of each level in what was read, lowest level first
    gradient  length of the gradient before clipping
    seconds   that the update took, pairs included
    """

    step: int
    steps: int
    loss: float
    shares: tuple[float, ...]
    gradient: float
    learning_rate: float
    seconds: float


def train_adapter(
    base: FlowBase, source: PairSource, training: AdapterTraining, crew: Crew, *, workers: int = 0
) -> Iterator[AdapterReport]:
    """Trains up to `settings.steps`, in step with the other processes; the base never changes.

    workers  processes that make pairs ahead of time; they change no bit
    Raises TrainingDiverged in every process, with the training as it was after the last good update.
    """
    if source.fingerprint() != training.data:
        raise BadSettings("other pictures came", "those this training began with were expected", "begin a new training")
    settings = training.settings
    parts = (
        crew.part(settings.places(step, index))
        for step in range(training.step, settings.steps)
        for index in range(settings.accumulation)
    )
    log.info("training from step %d to %d on %d processes", training.step, settings.steps, crew.count)
    made = batches(source, parts, settings.seed, settings.cut_out, workers)
    try:
        while training.step < settings.steps:
            started = time.perf_counter()
            passes = [next(made) for _ in range(settings.accumulation)]
            numbers, gradient, rate = _update(base, training, crew, passes)
            seconds = time.perf_counter() - started
            loss, *shares = numbers
            yield AdapterReport(training.step, settings.steps, loss, tuple(shares), gradient, rate, seconds)
    finally:
        made.close()


def _update(
    base: FlowBase, training: AdapterTraining, crew: Crew, passes: Sequence[Sequence[Pair]]
) -> tuple[list[float], float, float]:
    """One update: (loss and shares averaged over passes and processes, gradient's length, learning rate)."""
    settings, optimiser = training.settings, training.optimiser
    optimiser.zero_grad(set_to_none=True)
    told = []
    for index, pairs in enumerate(passes):
        places = crew.part(settings.places(training.step, index))
        batch = make_batch(base, pairs, places, settings, crew.device)
        with crew.waits(training.lesson, is_last=index + 1 == len(passes)):
            loss, shares = training.lesson(batch)
            crew.backward(loss)
        told.append(torch.cat((loss.detach().reshape(1), shares)))
    gradient = crew.clip(list(training.learned.values()), settings.clip_norm or math.inf)
    if not math.isfinite(gradient):
        optimiser.zero_grad(set_to_none=True)
        raise TrainingDiverged(
            f"the gradient became {gradient} in step {training.step + 1}",
            "a finite number was expected",
            "lower the learning rate; the adapter as it was before this step can still be saved",
        )
    rate = settings.rate_at(training.step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    training.step += 1
    follow(training)
    numbers = crew.mean(torch.stack(told).mean(dim=0))
    training.losses.append(numbers[0])
    return numbers, gradient, rate
