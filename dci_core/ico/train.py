"""ICO training as a generator: implicit contexts, modifier tokens, keys and values (Jin et al., ECCV 2024)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import BadSettings, TrainingDiverged
from ..model import Model, Text
from ..noise.losses import noise_loss, noise_of
from ..noise.schedule import sd_schedule
from ..text.captions import join_text
from .backward_memory import KeptBytes
from .data import TrainingData
from .draws import Draw, draw_class_rows, draw_rows
from .settings import rate_at
from .state import TrainState, generator_for
from .texts import TrainingTexts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepReport:
    """One finished step.

    step           finished steps, of `steps`
    loss           of the concept's rows
    prior_loss     of the prior's rows, not yet weighted, or None without a prior
    learning_rate  of key/value weights and modifier tokens
    seconds        that the step took
    """

    step: int
    steps: int
    loss: float
    prior_loss: float | None
    learning_rate: float
    seconds: float


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
    model: Model, data: TrainingData, state: TrainState, *, sigmas: Tensor | None = None
) -> Iterator[StepReport]:
    """Trains `state` step by step up to `state.settings.steps`; between two reports everything may be saved or dropped.

    sigmas  [1000], noise level of each training timestep; None: Stable Diffusion's
    Raises TrainingDiverged, with the state as it was after the last good step. The model is never changed: the deltas
    act through an attention rule, and gradients are taken for the learned parameters alone.
    """
    if data.fingerprint() != state.data:
        raise BadSettings("other pictures came", "those this training began with were expected", "begin a new training")
    with torch.inference_mode(False):
        work = _Work(model, data, state, default_sigmas() if sigmas is None else sigmas)
    log.info("training %r from step %d to %d", state.noun, state.step, state.settings.steps)
    while state.step < state.settings.steps:
        yield work.step()


def backward_bytes(
    model: Model, data: TrainingData, state: TrainState, networks: Iterable[nn.Module], *, sigmas: Tensor | None = None
) -> int:
    """What the backward pass of the next step keeps, counted in a forward pass that keeps nothing.

    networks  whose weights are there anyway; weights that a host casts for each layer count
    """
    with torch.inference_mode(False), torch.enable_grad():
        work = _Work(model, data, state, default_sigmas() if sigmas is None else sigmas)
        with KeptBytes(networks) as kept, work.precision():
            work.losses(0)
    return kept.count


def default_sigmas() -> Tensor:
    """[1000] noise levels of Stable Diffusion's training timesteps."""
    return sd_schedule().log_sigmas.exp().float()


class _Work:
    """What does not change from step to step, and one step."""

    def __init__(self, model: Model, data: TrainingData, state: TrainState, sigmas: Tensor) -> None:
        self.model, self.data, self.state, self.settings = model, data, state, state.settings
        self.device = state.learned.deltas.device
        self.sigmas = sigmas.to(self.device)
        self.texts = TrainingTexts(model, data, state)
        self.parameters = list(state.learned.parameters())
        self.rule = state.learned.deltas.rule()

    def step(self) -> StepReport:
        """One update of the weights."""
        started = time.perf_counter()
        passes = self.settings.accumulation
        losses: list[float] = []
        priors: list[float] = []
        sums: list[Tensor | None] = [None] * len(self.parameters)
        with torch.inference_mode(False), torch.enable_grad():
            for index in range(passes):
                with self.precision():
                    loss, prior = self.losses(index)
                total = loss if prior is None else loss + self.settings.prior_weight * prior
                losses.append(loss.item())
                priors += [] if prior is None else [prior.item()]
                self._check(losses[-1] + sum(priors))
                grads = torch.autograd.grad(total / passes, self.parameters, allow_unused=True)
                sums = [added(s, g) for s, g in zip(sums, grads, strict=True)]
            rate = self._update(sums)
        self.state.step += 1
        self.state.losses.append(sum(losses) / passes)
        prior_loss = sum(priors) / passes if priors else None
        seconds = time.perf_counter() - started
        return StepReport(self.state.step, self.settings.steps, self.state.losses[-1], prior_loss, rate, seconds)

    def precision(self) -> torch.autocast:
        """bfloat16 for the passes where the settings ask for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16)

    def losses(self, index: int) -> tuple[Tensor, Tensor | None]:
        """(concept's, prior's or None) of the next step's pass of that index; changes nothing."""
        concept, prior = self._batches(generator_for(self.settings.seed, "step", self.state.step, index))
        rows = [concept] if prior is None else [concept, prior]
        losses = [
            noise_loss(eps, batch.target, batch.sigma, batch.mask, self.state.prediction)
            for eps, batch in zip(self._predict(rows), rows, strict=True)
        ]
        return losses[0], losses[1] if prior is not None else None

    def _predict(self, batches: list[Batch]) -> list[Tensor]:
        """Predicted noise of each batch; one pass of the model where the shapes allow."""
        if len({b.x.shape[1:] for b in batches}) > 1:
            return [self._predict([b])[0] for b in batches]
        x, sigma = torch.cat([b.x for b in batches]), torch.cat([b.sigma for b in batches])
        x0 = self.model.denoise(x, sigma, join_text([b.text for b in batches]), self.rule)
        return list(torch.split(noise_of(x, x0, sigma), [len(b.x) for b in batches]))

    def _batches(self, generator: torch.Generator) -> tuple[Batch, Batch | None]:
        draw = draw_rows(self.data, self.texts.choices, self.settings, generator)
        x, sigma, noise = self._noisy(self.data.latents, draw)
        mask = None if self.data.masks is None else self.data.masks[draw.images, draw.flips].to(self.device)
        concept = Batch(x, sigma, self.texts.concept(draw), noise, mask)
        if self.settings.prior == "none":
            return concept, None
        if self.settings.prior == "teacher":
            return concept, self._taught(x, sigma, self.texts.nouns(draw))
        assert self.data.class_latents is not None  # begin_training has checked
        draw = draw_class_rows(self.data.class_latents, self.settings, generator)
        x, sigma, noise = self._noisy(self.data.class_latents, draw)
        return concept, Batch(x, sigma, self.texts.classes(draw), noise)

    def _taught(self, x: Tensor, sigma: Tensor, text: Text) -> Batch:
        """The same noisy rows with the noun alone; the target is what the untrained model sees in them."""
        with torch.no_grad():
            target = noise_of(x, self.model.denoise(x, sigma, text), sigma)
        return Batch(x, sigma, text, target)

    def _noisy(self, latents: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        clean = latents[draw.images, draw.flips].float().to(self.device)  # [rows c h w]
        sigma, noise = self.sigmas[draw.timesteps], draw.noise.to(self.device)
        return clean + sigma[:, None, None, None] * noise, sigma, noise

    def _update(self, gradients: list[Tensor | None]) -> float:
        """The optimiser's step; returns its learning rate."""
        optimiser = self.state.optimiser
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        longest = self.settings.clip_norm or math.inf
        self._check(torch.nn.utils.clip_grad_norm_(self.parameters, longest).item())
        rate = rate_at(self.state.step, self.settings)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return rate

    def _check(self, number: float) -> None:
        if not math.isfinite(number):
            self.state.optimiser.zero_grad(set_to_none=True)
            raise TrainingDiverged(
                f"the loss became {number} in step {self.state.step + 1}",
                "a finite number was expected",
                "lower the learning rate; the concept as it was before this step can still be saved",
            )


def added(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """The sum of both, in the first's memory; the gradient itself where there is no sum yet."""
    if total is None or gradient is None:
        return gradient if total is None else total
    return total.add_(gradient)
