"""Pictures from a concept: prompts read, latents drawn with a bar, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..concept.apply import apply_concept
from ..concept.learned import Concept
from ..dci.branches import DciSettings
from ..dci.guidance import WeightMap
from ..dci.run import Sampled, SampleSettings, sample_latents
from ..errors import SpanNotFound
from ..noise.samplers import Step
from ..text.prompts import Prompts
from ..text.tokens import PLACEHOLDER, PromptPair
from .console import Bar
from .tiny_world import ENCODER, SmallModel, TinyWorld

ROWS = 8  # pictures in one run; noise depends on the seed alone, so the pictures do not


@dataclass(frozen=True)
class Drawn:
    """What one prompt gave.

    pictures   [b 3 h w] in 0..1
    auxiliary  the auxiliary branch's pictures, like them, or None where it did not act
    weights    maps of every step and layer that integrated, if they were asked for
    warnings   sentences of the run
    """

    pictures: Tensor
    auxiliary: Tensor | None = None
    weights: tuple[WeightMap, ...] = ()
    warnings: tuple[str, ...] = ()


def with_concept(tiny_world: TinyWorld, concept: Concept, strength: float = 1.0) -> SmallModel:
    """The small world's model, able to draw the concept; raises BadConcept."""
    return apply_concept(tiny_world.model, concept, strength, base_hash=tiny_world.base_hash)


def pair_prompts(model: SmallModel, concept: Concept, template: str, auxiliary: str) -> Prompts:
    """The template for the dual branch; raises SpanNotFound, BadSettings, PromptTooLong."""
    pair = PromptPair.from_template(
        template, trigger=concept.trigger, noun=concept.noun, auxiliary=auxiliary, encoder=model.encoders[ENCODER]
    )
    return Prompts.from_pair(model, pair)


def plain_prompts(model: SmallModel, concept: Concept, template: str) -> Prompts:
    """The template for plain sampling; raises SpanNotFound, PromptTooLong."""
    if PLACEHOLDER not in template:
        raise SpanNotFound(
            f"the template is {template!r}", f"it must hold {PLACEHOLDER}", "write it where the concept should stand"
        )
    return Prompts.from_text(model, template.replace(PLACEHOLDER, concept.phrase))


def advance(bar: Bar, num: int, step: Step) -> None:
    """One step of so many pictures further on the bar."""
    bar.update(num)


@torch.no_grad()
def draw(
    tiny_world: TinyWorld,
    model: SmallModel,
    prompts: Prompts,
    *,
    seeds: Sequence[int],
    settings: SampleSettings,
    dci: DciSettings | None,
    bar: Bar,
    records_weights: bool = False,
) -> Drawn:
    """One picture a seed; the bar goes one further with each picture's step."""
    parts: list[Sampled] = []
    for first in range(0, len(seeds), ROWS):
        rows = list(seeds[first : first + ROWS])
        run = sample_latents(
            model,
            prompts,
            seeds=rows,
            settings=settings,
            dci=dci,
            records_weights=records_weights,
            on_step=partial(advance, bar, len(rows)),
        )
        parts.append(run)
    auxiliary = [tiny_world.codec.decode(part.auxiliary) for part in parts if part.auxiliary is not None]
    return Drawn(
        torch.cat([tiny_world.codec.decode(part.concept) for part in parts]),
        torch.cat(auxiliary) if auxiliary else None,
        parts[0].weights,
        parts[0].warnings,
    )
