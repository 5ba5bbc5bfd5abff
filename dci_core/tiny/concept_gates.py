"""The gates that need concepts to be learned: gate 0, and gate 1's conflict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..apply import apply_concept
from ..concept import Concept, make_concept
from ..ico import StepReport, train_steps
from ..ico_settings import IcoSettings
from ..prompts import Prompts
from ..training_data import TrainingData
from ..training_state import TrainState, begin_training
from .defaults import TINY_ICO
from .judge import Judge, verdict
from .model import TinyModel, World
from .readings import Reading, reading
from .trial import Ask, asks_for, pictures_of, scale_for, to_tensor
from .world.captions import caption
from .world.concepts import CONCEPTS, HELD_OUT_LOOKS, HeldOut
from .world.scene import Scene, random_place, random_thing, render
from .world.words import NOUNS, RARE_WORDS

LEAST_LIKENESS = 0.7
SEEDS = (0, 1, 2, 3)
CLASS_PICTURES, CLASS_SEED = 40, 515_000


def begin(world: World, thing: HeldOut, kind: str, settings: IcoSettings) -> tuple[TrainingData, TrainState]:
    """The training of a held-out object at its first step, on its reference pictures."""
    pixels = to_tensor(thing.references(kind))
    with torch.no_grad():
        latents = torch.stack((world.codec.encode(pixels), world.codec.encode(pixels.flip(-1))), dim=1)
    data = TrainingData(latents, captions=(None,) * len(pixels))
    if settings.prior == "pictures":
        data = with_class_pictures(world, data, thing.thing.noun)
    rare = rare_tokens(world.model, settings)
    state = begin_training(world.model, data, settings, noun=thing.thing.noun, rare_tokens=rare)
    return data, state


def rare_tokens(model: TinyModel, settings: IcoSettings) -> dict[str, list[int]]:
    """The meaningless words that modifier tokens start from."""
    words = RARE_WORDS[: settings.modifier_tokens]
    return {"clip_l": [model.encoders["clip_l"].tokenize(word)[0] for word in words]}


def with_class_pictures(world: World, data: TrainingData, noun: str) -> TrainingData:
    """The data with captioned pictures of other things of the noun: always the same ones, no held-out look."""
    rng = np.random.default_rng(CLASS_SEED + NOUNS.index(noun))
    scenes: list[Scene] = []
    while len(scenes) < CLASS_PICTURES:
        scene = Scene(random_thing(rng, noun), random_place(noun, rng))
        scenes += [] if scene.thing.look in HELD_OUT_LOOKS else [scene]
    pixels = to_tensor([render(scene, rng) for scene in scenes])
    with torch.no_grad():
        latents = torch.stack((world.codec.encode(pixels), world.codec.encode(pixels.flip(-1))), dim=1)
    return replace(data, class_latents=latents, class_captions=tuple(caption(scene, rng) for scene in scenes))


def learn(
    world: World, thing: HeldOut, kind: str, settings: IcoSettings = TINY_ICO
) -> tuple[Concept, list[StepReport]]:
    """The object as a concept, learned to the last step of the settings."""
    data, state = begin(world, thing, kind, settings)
    reports = list(train_steps(world.model, data, state))
    return make_concept(state, trigger=f"my{thing.thing.noun}"), reports


@dataclass(frozen=True)
class Score:
    """Pictures of one prompt: likeness [seeds], and whether all that was asked is there [seeds]."""

    ask: Ask
    likeness: Tensor
    has_all: Tensor


def score(world: World, judge: Judge, thing: HeldOut, model: TinyModel, concept: Concept, ask: Ask) -> Score:
    """One prompt drawn plainly and judged."""
    prompts = Prompts.from_text(model, ask.template.replace("{concept}", concept.phrase))
    found = verdict(judge, pictures_of(model, world.codec, prompts, SEEDS), scale_for(judge, thing), ask.asked)
    return Score(ask, found.likeness, torch.stack(list(found.asked.values())).all(dim=0))


def concept_gate(world: World, judge: Judge, things: Sequence[HeldOut] = CONCEPTS) -> Iterator[Reading]:
    """Gates 0 and 1 over these objects, each learned from varied places and drawn without DCI."""
    at_home, both = [], []
    for thing in things:
        concept, _ = learn(world, thing, "varied")
        model = apply_concept(world.model, concept)
        scores = [score(world, judge, thing, model, concept, ask) for ask in asks_for(thing)]
        at_home.append(float(scores[0].likeness.mean()))
        rare = [((s.likeness >= LEAST_LIKENESS) & s.has_all).float().mean() for s in scores if s.ask.is_low_prior]
        both.append(float(torch.stack(rare).mean()))
        yield reading("0", f"  {thing.name}: likeness in a place of its references", at_home[-1])
    good = sum(value >= LEAST_LIKENESS for value in at_home) / len(things)
    yield reading("0", f"share of {len(things)} concepts with likeness >= 0.7 in such a place", good, 0.75)
    share = sum(both) / len(things)
    asked, passed = "0.3 to 0.7", 0.3 <= share <= 0.7
    yield Reading("1", "low-prior pictures with likeness >= 0.7 and all that was asked", share, asked, passed)
