"""The gates that need concepts to be learned: gate 0, and gate 1's conflict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from ...concept.apply import apply_concept
from ...concept.learned import Concept
from ...ico.data import TrainingData
from ...ico.result import make_concept
from ...ico.settings import IcoSettings
from ...ico.state import TrainState, begin_training
from ...ico.train import StepReport, train_steps
from ...model import Model
from ...text.prompts import Prompts
from ...tiny.defaults import TINY_ICO
from ...tiny.judge import Judge, verdict
from ...tiny.model import TinyModel, World
from ...tiny.readings import Reading, reading
from ...tiny.world.captions import caption
from ...tiny.world.concepts import CONCEPTS, HELD_OUT_LOOKS, HeldOut
from ...tiny.world.scene import Rendered, Scene, random_place, random_thing, render
from ...tiny.world.words import NOUNS, RARE_WORDS
from ..worlds import SmallWorld
from .trial import Ask, asks_for, pictures_of, scale_for, to_tensor

LEAST_LIKENESS = 0.7
SEEDS = (0, 1, 2, 3)
CLASS_PICTURES, CLASS_SEED = 40, 515_000


def begin(world: SmallWorld, thing: HeldOut, kind: str, settings: IcoSettings) -> tuple[TrainingData, TrainState]:
    """The training of a held-out object at its first step, on its reference pictures."""
    latents = in_both_flips(world, thing.references(kind))
    data = TrainingData(latents, captions=(None,) * len(latents))
    if settings.prior == "pictures":
        data = with_class_pictures(world, data, thing.thing.noun)
    rare = rare_tokens(world.model, settings)
    state = begin_training(world.model, data, settings, noun=thing.thing.noun, rare_tokens=rare)
    return data, state


def in_both_flips(world: SmallWorld, pictures: Sequence[Rendered]) -> Tensor:
    """Latents of the pictures and of their mirror images, [b 2 c h w]."""
    pixels = to_tensor(pictures)
    with torch.no_grad():
        return torch.stack((world.codec.encode(pixels), world.codec.encode(pixels.flip(-1))), dim=1)


def rare_tokens(model: Model, settings: IcoSettings) -> dict[str, list[int]]:
    """The meaningless words that modifier tokens start from."""
    words = RARE_WORDS[: settings.modifier_tokens]
    return {"clip_l": [model.encoders["clip_l"].tokenize(word)[0] for word in words]}


def with_class_pictures(world: SmallWorld, data: TrainingData, noun: str) -> TrainingData:
    """The data with captioned pictures of other things of the noun: always the same ones, no held-out look."""
    rng = np.random.default_rng(CLASS_SEED + NOUNS.index(noun))
    scenes: list[Scene] = []
    while len(scenes) < CLASS_PICTURES:
        scene = Scene(random_thing(rng, noun), random_place(noun, rng))
        scenes += [] if scene.thing.look in HELD_OUT_LOOKS else [scene]
    latents = in_both_flips(world, [render(scene, rng) for scene in scenes])
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


@dataclass(frozen=True)
class Tried:
    """One object, learned from each kind of reference set and drawn plainly; each value in 0..1.

    varied     likeness in a place of its references, which show varied places
    home       the same for references that are all in one place
    low_prior  share of low-prior pictures with likeness >= 0.7 and all that was asked, from the latter
    """

    name: str
    varied: float
    home: float
    low_prior: float


def score(world: World, judge: Judge, thing: HeldOut, kind: str, phrase: str, model: TinyModel, ask: Ask) -> Score:
    """One prompt drawn plainly and judged; phrase is what stands for the concept in it."""
    prompts = Prompts.from_text(model, ask.template.replace("{concept}", phrase))
    found = verdict(judge, pictures_of(model, world.codec, prompts, SEEDS), scale_for(judge, thing, kind), ask.asked)
    return Score(ask, found.likeness, torch.stack(list(found.asked.values())).all(dim=0))


def scores(world: World, judge: Judge, thing: HeldOut, kind: str, asks: Sequence[Ask]) -> list[Score]:
    """The object learned from one kind of reference set, and each prompt judged."""
    concept, _ = learn(world, thing, kind)
    model = apply_concept(world.model, concept)
    return [score(world, judge, thing, kind, concept.phrase, model, ask) for ask in asks]


def try_thing(world: World, judge: Judge, thing: HeldOut) -> Tried:
    """The object learned twice, and drawn where it is at home and where no picture of its kind ever was."""
    at_home, *others = asks_for(thing)  # alone in the home place, which both kinds of reference set hold
    varied = scores(world, judge, thing, "varied", [at_home])[0]
    home, *rare = scores(world, judge, thing, "home", [at_home, *(ask for ask in others if ask.is_low_prior)])
    both = torch.stack([(one.likeness >= LEAST_LIKENESS) & one.has_all for one in rare])
    return Tried(thing.name, float(varied.likeness.mean()), float(home.likeness.mean()), float(both.float().mean()))


def concept_gate(
    world: World, judge: Judge, things: Sequence[HeldOut] = CONCEPTS, workers: int = 2
) -> Iterator[Reading]:
    """Gates 0 and 1 over these objects, drawn without DCI; workers are processes of one thread each."""
    context = get_context("spawn")
    tried = list[Tried]()
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for one in pool.map(partial(try_thing, world, judge), things):
            tried.append(one)
            yield reading("0", f"  {one.name}: likeness in a place of its varied references", one.varied)
            yield reading("1", f"  {one.name}: likeness at home, all references from there", one.home)
            yield reading("1", f"  {one.name}: low-prior pictures with all right, references from home", one.low_prior)
    num = len(tried)
    good, home = (
        sum(v >= LEAST_LIKENESS for v in x) / num for x in ([t.varied for t in tried], [t.home for t in tried])
    )
    yield reading("0", f"share of {num} concepts with likeness >= 0.7 in such a place", good, 0.75)
    yield reading("1", f"share of {num} concepts with likeness >= 0.7 at home, references from home", home)
    share = sum(one.low_prior for one in tried) / num
    what = "low-prior pictures with likeness >= 0.7 and all that was asked, references from home"
    yield Reading("1", what, share, "0.3 to 0.7", 0.3 <= share <= 0.7)
