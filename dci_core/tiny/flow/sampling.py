"""Sampling from a rectified flow: Euler's method from noise (t 1) to a picture's latent (t 0)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.joint import JointRule
from ...devices import sent
from ...errors import BadSettings
from ...noise.flow_schedule import EVEN, FlowSchedule
from ..codec import LATENT_CHANNELS
from .model import FlowModel

SIDE = 16  # latents of a picture, a side


@dataclass(frozen=True)
class FlowSettings:
    """How a run steps. cfg 1 leaves the negative prompt out; shift above 1 spends more steps near noise."""

    num_steps: int = 20
    cfg: float = 3.5
    shift: float = 1.5


@dataclass(frozen=True)
class FlowStep:
    """One finished step from time t: x is where it led, x0 the clean latent's estimate that led it, [b c h w]."""

    index: int
    num_steps: int
    t: float
    x: Tensor
    x0: Tensor


OnFlowStep = Callable[[FlowStep], None]


def flow_times(settings: FlowSettings) -> list[float]:
    """Falling times from 1 to 0, one more than steps; raises BadSettings."""
    if settings.num_steps < 1:
        raise BadSettings(f"{settings.num_steps} steps were asked for", "at least 1 is expected", "use about 20")
    if not (math.isfinite(settings.shift) and settings.shift > 0):
        raise BadSettings(f"the shift is {settings.shift}", "a number above 0 is expected", "use 1 for none")
    return FlowSchedule(settings.shift).spaced(EVEN, settings.num_steps)


def seeded_noise(seeds: Sequence[int]) -> Tensor:
    """[b c h w] unit noise, each row from its own seed alone; raises BadSettings."""
    if not seeds:
        raise BadSettings("no seed was given", "one for each picture is expected", "give a seed")
    shape = (LATENT_CHANNELS, SIDE, SIDE)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def sample_flow(
    model: FlowModel,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    settings: FlowSettings | None = None,
    negative: str = "",
    rule: JointRule | None = None,
    place: str = "attention",
    start: Tensor | None = None,
    on_step: OnFlowStep | None = None,
) -> Tensor:
    """Latents [b c h w], one for each seed.

    prompts  one for all seeds, or one for each
    rule     an image prompt, which the rows of the negative prompt never read; None: plain sampling, bit for bit
    place    where the rule adds, see `FlowModel.velocity`
    start    [b c h w] noise in place of the seeds' own
    """
    settings = settings or FlowSettings()
    times, num = flow_times(settings), len(seeds)
    if num and len(prompts) not in (1, num):
        raise BadSettings(f"{len(prompts)} prompts for {num} seeds", "one, or one for each, is expected", "match them")
    noise, is_guided = seeded_noise(seeds) if start is None else start, settings.cfg != 1
    text = model.encode([*(list(prompts) * num)[:num], *([negative] * num if is_guided else [])])
    x = sent(noise, text.hidden.device)
    reads = torch.cat((torch.ones(num), torch.zeros(num)))[: len(text.hidden)]
    for i, (t, following) in enumerate(zip(times[:-1], times[1:], strict=True)):
        rows = torch.cat((x, x)) if is_guided else x
        at = torch.full((len(rows),), t, device=rows.device)
        velocity = model.velocity(rows, at, text, rule, reads=reads, place=place)
        if is_guided:
            asked, refused = velocity.chunk(2)
            velocity = refused + settings.cfg * (asked - refused)
        x, x0 = x + (following - t) * velocity, x - t * velocity
        if on_step is not None:
            on_step(FlowStep(i, settings.num_steps, t, x, x0))
    return x
