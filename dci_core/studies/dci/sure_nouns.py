"""How sure a stand-in's map is in a scene, before anything is drawn with DCI: what could choose the noun by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...attention.call import AttentionCall
from ...dci.guidance import denoise_at
from ...dci.maps import TOKEN_SHARPNESS, span_mass, text_probabilities
from ...dci.run import SampleSettings
from ...model import Model
from ...text.captions import pick_text
from ...text.prompts import Prompts
from ...tiny.world.concepts import OBJECTS
from .cells import Bench, prompts_for
from .dials import Way
from .drawing import Rows, need_auxiliary, start_run
from .ground import Lesson
from .judge_scores import Numbers
from .protocol import Training

LOOKS = 4  # steps of a short plain run of the auxiliary prompt, each looked at


@dataclass(frozen=True)
class SureNounCell:
    """The auxiliary prompts of one concept run plainly in few steps, and how sure the noun's map is at each of them."""

    concept: int
    training: Training
    step: int
    noun: str
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def lesson(self) -> Lesson | None:
        """The checkpoint that is drawn from."""
        return Lesson(self.concept, self.training, (self.step,))

    @property
    def cost(self) -> int:
        """Three rows a picture and step: two that run, and one that is looked at."""
        return len(self.prompts) * len(self.seeds) * LOOKS * 3

    def play(self, bench: Bench) -> Numbers:
        """sureness [prompts][seeds][looks]."""
        model, concept = bench.tuned(self.concept, self.training, self.step)
        way = Way(SampleSettings(num_steps=LOOKS), auxiliary=self.noun)
        asked = [prompts_for(model, concept, OBJECTS[self.concept], number, way) for number in self.prompts]
        return {"sureness": [look_at(model, need_auxiliary(one), self.seeds, way.sample).tolist() for one in asked]}


@torch.no_grad()
def look_at(model: Model, prompts: Prompts, seeds: Sequence[int], sample: SampleSettings) -> Tensor:
    """[seeds steps]: how sure the stand-in's map is at each step of a plain run of the auxiliary prompt."""
    assert prompts.auxiliary is not None and prompts.tokens is not None
    tokens = prompts.tokens.auxiliary
    mass = span_mass(tokens, TOKEN_SHARPNESS, prompts.auxiliary.hidden.device)
    rows = Rows([replace(prompts, concept=prompts.auxiliary)], (0,) * len(seeds), tuple(seeds))
    denoise, text = rows.plain(model, sample.cfg), pick_text(prompts.auxiliary, [0] * len(seeds))
    looks = list[Tensor]()

    def watched(x: Tensor, sigma: float) -> Tensor:
        maps = list[Tensor]()

        def rule(call: AttentionCall) -> Tensor:
            maps.append(sureness(mass(text_probabilities(call, tokens.length))))
            return call.plain()

        denoise_at(model, x, sigma, text, rule)
        looks.append(torch.stack(maps).mean(dim=0))
        return denoise(x, sigma)

    start_run(model, rows, sample).single(watched)
    return torch.stack(looks, dim=-1)


def sureness(mass: Tensor) -> Tensor:
    """[b] of a map [b heads n] in 0..1: nats by which it is surer of its place than an even one, mean over heads.

    The map is read as a distribution over the image tokens; 0 is even.
    """
    share = mass / mass.sum(dim=-1, keepdim=True)
    entropy = -(share * share.clamp_min(1e-12).log()).sum(dim=-1)
    return (math.log(mass.shape[-1]) - entropy).mean(dim=1)


def surest(found: dict[str, Sequence[Sequence[Sequence[float]]]], look: int) -> list[str]:
    """Per prompt the noun whose map is surest at that look, the mean over seeds."""

    def sure(noun: str, prompt: int) -> float:
        rows = found[noun][prompt]
        return sum(row[look] for row in rows) / len(rows)

    return [max(found, key=lambda noun: sure(noun, i)) for i in range(len(next(iter(found.values()))))]
