"""The gates of a fair ground: measured, printed, kept. What each means stands beside its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ...dci.run import sample_latents
from ...noise.samplers import Step
from ...noise.schedule import sd_schedule
from ...text.prompts import Prompts
from ...tiny.judge import QUESTIONS, Judge, verdict
from ...tiny.model import World
from ...tiny.readings import Reading, reading
from ...tiny.tokenizer import load_tokenizer
from ...tiny.world.captions import article, caption, look_in_words
from ...tiny.world.concepts import CONCEPTS, HELD_OUT_LOOKS
from ...tiny.world.scene import Scene, random_scene, random_thing, render
from ...tiny.world.words import COMPANIONS, HOMES, IN_TWO_PIECES, NEVER_BESIDE, NOUNS, PLACES, RARE_WORDS
from .judge import judge_gate
from .maps import attention_gate
from .trial import SETTINGS, pictures_of, scale_for, to_tensor

SEED = 424_200


def rare_words_gate(rng: np.random.Generator) -> Iterator[Reading]:
    """Gate 7: reserved words occur in captions, and some nouns have several tokens."""
    captions = [caption(random_scene(rng, HELD_OUT_LOOKS), rng).split() for _ in range(4000)]
    per_word = [np.mean([word in words for words in captions]) for word in RARE_WORDS]
    tokenizer = load_tokenizer()
    single = [len(tokenizer.encode(word).ids) == 1 for word in RARE_WORDS]
    yield reading("7", "reserved words of one token each", sum(single), 16)
    yield reading("7", "rarest reserved word, share of captions", float(min(per_word)), 0.001)
    yield reading("7", "nouns of two tokens", sum(len(tokenizer.encode(n).ids) == 2 for n in IN_TWO_PIECES), 3)


def told_look_gate(world: World, judge: Judge, seeds_each: int) -> Iterator[Reading]:
    """The cheap half of gate 0: the base told a concept's look in words, and asked for a companion."""
    likeness, beside = [], []
    for thing in CONCEPTS:
        scale, home = scale_for(judge, thing), HOMES[thing.thing.noun]
        companion = next(c for c in COMPANIONS if c != NEVER_BESIDE[thing.thing.noun])
        words = article(look_in_words(thing.thing)) + f" {PLACES[str(home)]}"
        alone = base_pictures(world, words, range(seeds_each))
        likeness.append(float(verdict(judge, alone, scale, {}).likeness.mean()))
        joined = base_pictures(world, f"{words} next to a {companion}", range(seeds_each))
        beside.append(float(verdict(judge, joined, scale, {"companion": companion}).asked["companion"].float().mean()))
    yield reading("0 cheap", "likeness of the base told the look in words, mean of 20", float(np.mean(likeness)), 0.8)
    yield reading("0 cheap", "base draws an asked companion, share", float(np.mean(beside)), 0.8)


def base_pictures(world: World, words: str, seeds: range) -> Tensor:
    """Pictures of a plain prompt, [b 3 128 128]."""
    return pictures_of(world.model, world.codec, Prompts.from_text(world.model, words), list(seeds))


def place_gate(world: World, judge: Judge, seeds_each: int) -> Iterator[Reading]:
    """The first part of gate 1, and gate 3's brightness: an ordinary noun in each place it may be asked in."""
    right, noun_right = [], []
    bright: dict[str, list[float]] = {"snow": [], "night": []}
    for noun in NOUNS:
        for place, words in PLACES.items():
            pictures = base_pictures(world, f"{article(noun)} {words}", range(seeds_each))
            with torch.no_grad():
                answers, _ = judge(pictures)
            right.append(float((answers["place"].argmax(1) == QUESTIONS["place"].index(place)).float().mean()))
            noun_right.append(float((answers["noun"].argmax(1) == QUESTIONS["noun"].index(noun)).float().mean()))
            if place in bright:
                bright[place].append(float(pictures[..., :24, :].mean()))
    yield reading("1", "base draws an ordinary noun in the asked place, share", float(np.mean(right)), 0.9)
    yield reading("1", "the noun itself is there, share", float(np.mean(noun_right)))
    rng = np.random.default_rng(SEED)
    for place, values in bright.items():
        true = to_tensor([render(Scene(random_thing(rng), place), rng) for _ in range(60)])[..., :24, :].mean()
        yield reading("3", f"brightness of the sky, {place}: drawn minus true", float(np.mean(values)) - float(true))


@torch.no_grad()
def window_gate(world: World, judge: Judge) -> Iterator[Reading]:
    """Gate 4: the timestep at which the judged x0 prediction has the place right half the time."""
    right: dict[int, list[float]] = {}
    for place, words in PLACES.items():
        prompts = Prompts.from_text(world.model, f"a star {words}")

        def watch(step: Step, place: str = place) -> None:
            timestep = int(sd_schedule().timestep(torch.tensor([step.sigma]))[0])
            answers, _ = judge(world.codec.decode(step.x0))
            right.setdefault(timestep, []).append(
                float((answers["place"].argmax(1) == QUESTIONS["place"].index(place)).float().mean())
            )

        sample_latents(world.model, prompts, seeds=[0, 1, 2, 3], settings=SETTINGS, on_step=watch)
    means = {t: float(np.mean(values)) for t, values in sorted(right.items(), reverse=True)}
    half = next((t for t, share in means.items() if share >= 0.5), 0)
    yield reading("4", "timestep at which the predicted picture has the place right half the time", half)


Gate = Callable[[], Iterator[Reading]]


def base_gates(world: World, judge: Judge, seeds_each: int = 4) -> list[Gate]:
    """The gates that need no concept training, cheapest first."""
    rng = np.random.default_rng(SEED)
    return [
        lambda: rare_words_gate(rng),
        lambda: judge_gate(judge, rng),
        lambda: attention_gate(world),
        lambda: told_look_gate(world, judge, seeds_each),
        lambda: window_gate(world, judge),
        lambda: place_gate(world, judge, seeds_each),
    ]
