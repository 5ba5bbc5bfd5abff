"""ICO training as a generator: implicit contexts, modifier tokens, keys and values (Jin et al., ECCV 2024)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..devices import autocast, sent
from ..errors import BadSettings
from ..families.table import find_family
from ..model import Model, Text
from ..noise.schedule import place_in
from ..text.captions import join_text
from .backward_memory import KeptBytes
from .data import TrainingData
from .draws import Draw, draw_class_rows, draw_rows
from .precision import DTYPES
from .state import TrainState, generator_for
from .texts import TrainingTexts
from .update import MOST_BAD_DRAWS, Updates, read

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepReport:
    """One finished step.

    step           finished steps, of `steps`
    loss           of the concept's rows
    prior_loss     of the prior's rows, not yet weighted, or None without a prior
    learning_rate  of key/value weights and modifier tokens
    seconds        that the step took
    skipped        passes before it that gave no finite number
    bad_draws      draws of this step that were left out for that; where fp16 overflowed the same draw was tried again
    """

    step: int
    steps: int
    loss: float
    prior_loss: float | None
    learning_rate: float
    seconds: float
    skipped: int = 0
    bad_draws: int = 0


@dataclass(frozen=True)
class Batch:
    """Noisy rows with what the model should answer.

    x, target  [rows c h w]; sigma [rows]; mask [rows 1 h w] or None
    """

    x: Tensor
    sigma: Tensor
    text: Text
    target: Tensor
    mask: Tensor | None = None


def train_steps(
    model: Model,
    data: TrainingData,
    state: TrainState,
    *,
    sigmas: Tensor | None = None,
    data_std: float = 1.0,
    casts: bool = True,
) -> Iterator[StepReport]:
    """Trains `state` step by step up to `state.settings.steps`; between two reports everything may be saved or dropped.

    sigmas    [n], noise level of each training timestep (1000 as a rule); None: the family's own
    data_std  spread of the latents that the model was made for: EDM's sigma_data
    casts     whether the settings' precision is put around the model; False where the model itself computes in it
    A draw without finite numbers is left out for another; after ten in a row TrainingDiverged is raised, with the
    state as it was after the last good step: what goes on from it tries other draws. The model is never changed: the
    deltas act through an attention rule, and gradients are taken for the learned parameters alone.
    """
    if data.fingerprint() != state.data:
        raise BadSettings("other pictures came", "those this training began with were expected", "begin a new training")
    with torch.inference_mode(False):
        work = _Work(model, data, state, sigmas, data_std, casts)
    log.info("training %r from step %d to %d", state.noun, state.step, state.settings.steps)
    while state.step < state.settings.steps:
        yield work.step()


def count_backward(
    model: Model,
    data: TrainingData,
    state: TrainState,
    kept: KeptBytes,
    *,
    sigmas: Tensor | None = None,
    casts: bool = True,
) -> None:
    """Counts what the backward pass of the next step keeps, in a forward pass that keeps nothing."""
    with torch.inference_mode(False), torch.enable_grad():
        work = _Work(model, data, state, sigmas, casts=casts)
        with kept, work.precision():
            work.losses(0, state.bad_draws)


class _Work:
    """What does not change from step to step, and one step."""

    def __init__(
        self,
        model: Model,
        data: TrainingData,
        state: TrainState,
        sigmas: Tensor | None,
        data_std: float = 1.0,
        casts: bool = True,
    ) -> None:
        self.model, self.data, self.state, self.settings = model, data, state, state.settings
        self.device, self.casts = state.learned.deltas.device, casts
        self.noise = state.noise_process(sigmas, data_std)
        self.texts = TrainingTexts(model, data, state)
        self.parameters = list(state.learned.parameters())
        self.rule = state.learned.deltas.rule(holds_first=find_family(state.family).has_begin_mark)
        self.updates = Updates(state)

    def step(self) -> StepReport:
        """One update of the weights; raises TrainingDiverged."""
        started = time.perf_counter()
        passes, updates, skipped = self.settings.accumulation, self.updates, self.state.skipped
        before = draws = self.state.bad_draws
        with torch.inference_mode(False), torch.enable_grad():
            while True:
                losses, gradients = self._passes(draws)
                norms = updates.place(gradients)
                numbers = read([*losses, *norms])
                if all(map(math.isfinite, numbers)):
                    break
                draws += updates.skip(numbers[:passes], numbers)
                if draws - before == MOST_BAD_DRAWS:
                    self.state.bad_draws = draws
                    raise updates.diverged(numbers)
            rate = updates.apply(numbers[len(losses) :])
        priors = numbers[passes : len(losses)]
        self.state.step, self.state.bad_draws = self.state.step + 1, 0
        self.state.losses.append(sum(numbers[:passes]) / passes)
        return StepReport(
            step=self.state.step,
            steps=self.settings.steps,
            loss=self.state.losses[-1],
            prior_loss=sum(priors) / passes if priors else None,
            learning_rate=rate,
            seconds=time.perf_counter() - started,
            skipped=self.state.skipped - skipped,
            bad_draws=draws,
        )

    def precision(self) -> AbstractContextManager[object]:
        """The settings' precision for the passes, where the model does not see to it."""
        is_narrow = self.casts and self.settings.precision != "fp32"
        return autocast(self.device, DTYPES[self.settings.precision] if is_narrow else None)

    def losses(self, index: int, attempt: int = 0) -> tuple[Tensor, Tensor | None]:
        """(concept's, prior's or None) of the next step's pass of that index; changes nothing."""
        again = ("again", attempt) if attempt else ()
        concept, prior = self._batches(generator_for(self.settings.seed, "step", self.state.step, index, *again))
        rows = [concept] if prior is None else [concept, prior]
        losses = [
            self.noise.loss(answer, batch.target, batch.sigma, batch.mask)
            for answer, batch in zip(self._predict(rows), rows, strict=True)
        ]
        return losses[0], losses[1] if prior is not None else None

    def _passes(self, attempt: int) -> tuple[list[Tensor], list[Tensor]]:
        """(losses of all passes, then of all priors; summed gradients, one for each parameter), on their devices."""
        passes, scale = self.settings.accumulation, self.state.scale.value
        losses: list[Tensor] = []
        priors: list[Tensor] = []
        sums: list[Tensor | None] = [None] * len(self.parameters)
        for index in range(passes):
            with self.precision():
                loss, prior = self.losses(index, attempt)
            total = (loss if prior is None else loss + self.settings.prior_weight * prior) / passes
            losses.append(loss.detach())
            priors += [] if prior is None else [prior.detach()]
            scaled = total if scale == 1 else total * scale
            gradients = torch.autograd.grad(scaled, self.parameters, allow_unused=True)
            sums = [added(s, g) for s, g in zip(sums, gradients, strict=True)]
        pairs = zip(sums, self.parameters, strict=True)
        return losses + priors, [torch.zeros_like(p) if g is None else g for g, p in pairs]

    def _predict(self, batches: list[Batch]) -> list[Tensor]:
        """The model's answer to each batch; one pass of the model where the shapes allow."""
        if len({b.x.shape[1:] for b in batches}) > 1:
            return [self._predict([b])[0] for b in batches]
        x, sigma = torch.cat([b.x for b in batches]), torch.cat([b.sigma for b in batches])
        x0 = self.model.denoise(x, sigma, join_text([b.text for b in batches]), self.rule)
        return list(torch.split(self.noise.answer(x, x0, sigma), [len(b.x) for b in batches]))

    def _batches(self, generator: torch.Generator) -> tuple[Batch, Batch | None]:
        draw = draw_rows(self.data, self.texts.choices, self.settings, generator)
        x, sigma, target = self._noisy(self.data.latents, draw)
        mask = None if self.data.masks is None else self._mask(self.data.masks, draw)
        concept = Batch(x, sigma, self.texts.concept(draw), target, mask)
        if self.settings.prior == "none":
            return concept, None
        if self.settings.prior == "teacher":
            return concept, self._taught(x, sigma, self.texts.nouns(draw))
        assert self.data.class_latents is not None  # begin_training has checked
        draw = draw_class_rows(self.data.class_latents, self.settings, generator)
        x, sigma, target = self._noisy(self.data.class_latents, draw)
        return concept, Batch(x, sigma, self.texts.classes(draw), target)

    def _taught(self, x: Tensor, sigma: Tensor, text: Text) -> Batch:
        """The same noisy rows with the noun alone; the target is what the untrained model sees in them."""
        with torch.no_grad():
            target = self.noise.answer(x, self.model.denoise(x, sigma, text), sigma)
        return Batch(x, sigma, text, target)

    def _mask(self, masks: Tensor, draw: Draw) -> Tensor:
        return sent(draw.pick(masks), self.device)  # [rows 1 h w]

    def _noisy(self, latents: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """(x, sigma, what the model should answer) of the drawn rows."""
        clean = sent(draw.pick(latents).float(), self.device)
        levels = self.noise.sigmas[place_in(draw.timesteps, len(self.noise.sigmas))]
        sigma, noise = sent(levels, self.device), sent(draw.noise, self.device)
        return self.noise.noised(clean, sigma, noise), sigma, self.noise.target(clean, noise)


def added(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """The sum of both, in the first's memory; the gradient itself where there is no sum yet."""
    if total is None or gradient is None:
        return gradient if total is None else total
    return total.add_(gradient)
