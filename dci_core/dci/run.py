"""A whole run: seeds, prompts and settings in, latents out, with or without DCI."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..concept.together import Together
from ..devices import sent_like
from ..errors import BadSettings
from ..families.family import Family
from ..families.table import find_family
from ..model import Model
from ..noise.flow_schedule import FlowSchedule
from ..noise.samplers import Denoiser, DrawNoise, OnStep, Step, find_sampler
from ..noise.schedule import Schedule, is_open
from ..text.prompts import Prompts
from .branches import DciSettings, NoiseStream, for_all, pair, start_noise, unpair
from .guidance import WeightMap, dual_guided, guided, swapped_guided
from .replay import Replay
from .stability import shared_warning, window_warning

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleSettings:
    """How a run steps.

    cfg  guidance away from the empty prompt. Higher: closer to the prompt, less natural; 1 leaves the empty prompt out
    eta  fresh noise of `ddim`, 0..1. Higher: more
    """

    num_steps: int = 30
    cfg: float = 6.0  # released code's default
    sampler: str = "ddim"
    spacing: str = "normal"
    eta: float = 0.0


@dataclass(frozen=True)
class Sampled:
    """What a run gives.

    concept    [b c h w], the pictures' latents
    auxiliary  [b c h w], the auxiliary branch's last estimate of its own clean latents; None where it did not act
    weights    maps of every step and layer that integrated, if they were asked for
    warnings   sentences that the log got too
    """

    concept: Tensor
    auxiliary: Tensor | None = None
    weights: tuple[WeightMap, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What plain and dual runs share: where they start and how they step.

    seeds   one for each picture
    sigmas  falling noise levels
    shape   (c, h, w) of one picture's latents
    like    any tensor of the device and dtype to work in
    levels  the model's own schedule
    start   [b c h w] latents to start from; None: noise alone
    """

    seeds: Sequence[int]
    sigmas: Sequence[float]
    settings: SampleSettings
    shape: tuple[int, int, int]
    like: Tensor
    levels: Schedule | FlowSchedule
    start: Tensor | None = None
    on_step: OnStep | None = None

    def single(self, denoise: Denoiser) -> Tensor:
        """Latents of one branch, [b c h w]."""
        stream = NoiseStream(self.seeds, self.shape)
        x = self.levels.noised(sent_like(stream.draw(), self.like), self.sigmas[0], self.start)
        return self.steps(denoise, x, lambda sigma: sent_like(stream.draw(), self.like), self.on_step)

    def dual(self, denoise: Denoiser, settings: DciSettings, threshold: float) -> tuple[Tensor, Tensor | None]:
        """(latents, the auxiliary branch's last x0), both [b c h w]; concept rows get the noise that `single` gives."""
        concept = NoiseStream(self.seeds, self.shape)
        auxiliary = NoiseStream(settings.auxiliary_seeds(self.seeds), self.shape)
        acted: list[Tensor] = []

        def noise(sigma: float) -> Tensor:
            fresh = sent_like(concept.draw(), self.like)
            rests = not is_open(sigma, threshold)
            return pair(fresh, torch.zeros_like(fresh) if rests else sent_like(auxiliary.draw(), self.like))

        def on_step(step: Step) -> None:
            x0, other_x0 = unpair(step.x0)
            if is_open(step.sigma, threshold):
                acted[:] = [other_x0]
            if self.on_step is not None:
                self.on_step(replace(step, x=unpair(step.x)[0], x0=x0))

        first = start_noise(
            sent_like(concept.draw(), self.like), sent_like(auxiliary.draw(), self.like), settings.guidance
        )
        start = None if self.start is None else pair(self.start, for_all(self.start, settings.one_auxiliary))
        x = self.levels.noised(first, self.sigmas[0], start)
        x = self.steps(denoise, x, noise, on_step)
        return unpair(x)[0], acted[0] if acted else None

    def steps(self, denoise: Denoiser, x: Tensor, noise: DrawNoise, on_step: OnStep | None) -> Tensor:
        """x carried through all noise levels by the chosen sampler."""
        sampler = find_sampler(self.settings.sampler)
        return sampler(denoise, x, self.sigmas, eta=self.settings.eta, noise=noise, on_step=on_step)


def make_run(
    model: Model,
    prompts: Prompts,
    *,
    seeds: Sequence[int],
    settings: SampleSettings,
    sigmas: Sequence[float] | None = None,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Run:
    """A run of a model, on its text's device, in float32 at least; raises BadSettings."""
    if not seeds:
        raise BadSettings("no seed was given", "one for each picture is expected", "give a seed")
    if not math.isfinite(settings.cfg):
        raise BadSettings(f"the CFG is {settings.cfg}", "a number is expected", "use about 1 to 10")
    hidden = prompts.concept.hidden
    like = torch.empty(0, device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32))
    family = find_family(model.family)
    check_eta(settings, family)
    shape = family.latent_shape if start is None else start.shape[1:]
    falling = sigmas if sigmas is not None else family.schedule.spaced(settings.spacing, settings.num_steps)
    latent = (shape[0], shape[1], shape[2])
    return Run(tuple(seeds), falling, settings, latent, like, family.schedule, start, on_step)


def check_eta(settings: SampleSettings, family: Family) -> None:
    """Raises BadSettings where a flow is asked for fresh noise."""
    if family.is_flow and settings.eta != 0:
        raise BadSettings(f"eta is {settings.eta}", "0 is expected: fresh noise is a diffusion's", "leave it out")


def sample_latents(
    model: Model,
    prompts: Prompts,
    *,
    seeds: Sequence[int],
    settings: SampleSettings | None = None,
    dci: DciSettings | None = None,
    records_weights: bool = False,
    sigmas: Sequence[float] | None = None,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
    replay: Replay | None = None,
    together: Together | None = None,
) -> Sampled:
    """Latents of one prompt at several seeds; plain sampling, bit for bit, where dci is None or off.

    seeds    one for each picture; the concept branch sees exactly the noise that the plain run sees
    sigmas   falling noise levels in place of the settings' spacing (its tail, to start from given latents)
    start    [b c h w] latents to start from
    on_step  called after each step with the concept branch's latents
    replay   keeps the auxiliary branch's work for later runs that ask for the same; not in `shared` guidance, where the
             auxiliary depends on the concept
    together keeps several concepts of the prompt apart
    """
    settings = settings or SampleSettings()
    run = make_run(model, prompts, seeds=seeds, settings=settings, sigmas=sigmas, start=start, on_step=on_step)
    family = find_family(model.family)
    if dci is None or dci.is_off(family):
        return Sampled(run.single(guided(model, prompts, settings.cfg, together)))
    threshold = family.schedule.threshold(dci.window)
    warnings = run_warnings(run, dci, threshold)
    record: list[WeightMap] | None = [] if records_weights else None
    denoise = dual_guided(model, prompts, settings.cfg, dci, record, replay, together)
    concept, auxiliary = run.dual(denoise, dci, threshold)
    return Sampled(concept, auxiliary, tuple(record or ()), warnings)


def sample_swapped(
    model: Model,
    prompts: Prompts,
    *,
    window: float,
    seeds: Sequence[int],
    settings: SampleSettings | None = None,
) -> Sampled:
    """A control: the auxiliary prompt inside the window, the concept's after it, on one branch without DBIM."""
    settings = settings or SampleSettings()
    run = make_run(model, prompts, seeds=seeds, settings=settings)
    return Sampled(run.single(swapped_guided(model, prompts, settings.cfg, window)))


def run_warnings(run: Run, dci: DciSettings, threshold: float) -> tuple[str, ...]:
    """Sentences about this run that the user should read, logged once."""
    eta, cfg = run.settings.eta, run.settings.cfg
    found = [window_warning(run.sigmas, threshold)]
    if dci.guidance == "shared" and isinstance(run.levels, Schedule):  # the spring's factor is a diffusion's
        found.append(shared_warning(run.sigmas, cfg, threshold, eta))
    warnings = tuple(sentence for sentence in found if sentence is not None)
    for sentence in warnings:
        log.warning(sentence)
    return warnings
