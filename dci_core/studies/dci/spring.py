"""The two latents inside the window: how alike they are, how far apart, and what the spring factor predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ...dci.branches import unpair
from ...dci.row_plan import Guidance
from ...dci.run import SampleSettings
from ...dci.stability import spring_factor
from ...noise.schedule import open_steps, sd_schedule, spaced_sigmas, window_threshold
from ...tiny.world.concepts import CONCEPTS
from .cells import Bench, prompts_for
from .dials import Way, with_dci
from .drawing import Rows, start_run
from .ground import Lesson
from .judge_scores import Numbers
from .protocol import Training

WINDOW = 0.5


@dataclass(frozen=True)
class SpringCell:
    """DDIM without fresh noise, for which the factor is exact on unit Gaussian data."""

    concept: int
    training: Training
    step: int
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]
    guidance: Guidance
    num_steps: int
    cfg: float

    @property
    def lesson(self) -> Lesson | None:
        """The checkpoint that is drawn from."""
        return Lesson(self.concept, self.training, (self.step,))

    @property
    def cost(self) -> int:
        """Three or four rows a picture and step of the window; what follows is not drawn."""
        return int(len(self.prompts) * len(self.seeds) * self.num_steps * WINDOW * 4)

    @property
    def way(self) -> Way:
        """How it is drawn."""
        sample = SampleSettings(num_steps=self.num_steps, cfg=self.cfg, sampler="ddim")
        return with_dci(Way(sample), guidance=self.guidance, window=WINDOW)

    def play(self, bench: Bench) -> Numbers:
        """Before each step of the window and after its last: sigma, correlation, apart (RMS, variance-preserving)."""
        way, found = self.way, Numbers(sigma=[], correlation=[], apart=[])
        assert way.dci is not None
        model, concept = bench.tuned(self.concept, self.training, self.step)
        thing = CONCEPTS[self.concept]
        texts = [prompts_for(model, concept, thing, number, way) for number in self.prompts]
        owner, seeds = zip(*((i, seed) for i in range(len(texts)) for seed in self.seeds), strict=True)
        rows = Rows(texts, owner, seeds)
        threshold = window_threshold(WINDOW, sd_schedule().sigma)
        sigmas = spaced_sigmas(way.sample.spacing, self.num_steps)
        last = len(open_steps(sigmas, threshold))
        denoise = rows.dual(model, self.cfg, way.dci)

        def watched(x: Tensor, sigma: float) -> Tensor:
            note(found, x, sigma)
            return denoise(x, sigma)

        with torch.no_grad():
            run = replace(start_run(model, rows, way.sample), sigmas=sigmas[: last + 2])  # one call after the window
            run.dual(watched, way.dci, threshold)
        return found


def note(found: Numbers, x: Tensor, sigma: float) -> None:
    """Adds what the paired latents are at this noise."""
    concept, auxiliary = (part.flatten(1).double() / math.sqrt(1 + sigma**2) for part in unpair(x))
    one, other = (part - part.mean(dim=1, keepdim=True) for part in (concept, auxiliary))
    alike = cosine_similarity(one, other, dim=1).mean()
    apart = (auxiliary - concept).square().mean().sqrt()
    for name, value in (("sigma", sigma), ("correlation", float(alike)), ("apart", float(apart))):
        found[name].append(float(f"{value:.6g}"))


def predicted(found: Numbers, cfg: float) -> list[float]:
    """How far apart the spring factor says they are, from where they started."""
    apart = [found["apart"][0]]
    for sigma, after in zip(found["sigma"], found["sigma"][1:], strict=False):
        apart.append(apart[-1] * abs(spring_factor(sigma, after, cfg)))
    return apart
