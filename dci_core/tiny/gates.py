"""The gates of a fair ground: measured, printed, kept. What each means stands beside its number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from ..attention import AttentionCall
from ..layers import LayerId
from ..model import Text
from ..prompts import Prompts, encode_text
from ..schedule import sd_schedule
from .judge import QUESTIONS, Judge, verdict
from .model import TinyModel, World
from .tokenizer import load_tokenizer
from .trial import SETTINGS, pictures_of, scale_for, to_tensor
from .world.captions import article, caption, look_in_words
from .world.concepts import CONCEPTS, HELD_OUT_LOOKS, HeldOut
from .world.scene import Rendered, Scene, random_scene, random_thing, render
from .world.words import COMPANIONS, HOMES, IN_TWO_PIECES, NEVER, NEVER_BESIDE, NOUNS, PLACES, RARE_WORDS, STYLES

SEED = 424_200


@dataclass(frozen=True)
class Reading:
    """One number of one gate; passed is None where there is no threshold."""

    gate: str
    what: str
    value: float
    asked: str
    passed: bool | None

    def row(self) -> dict[str, object]:
        """As plain data."""
        return asdict(self)


def reading(gate: str, what: str, value: float, least: float | None = None) -> Reading:
    """A number with its least allowed value, if it has one."""
    asked = "reported" if least is None else f">= {least:g}"
    return Reading(gate, what, float(value), asked, None if least is None else value >= least)


def auc(positive: Tensor, negative: Tensor) -> float:
    """Chance that a positive scores above a negative (area under ROC)."""
    scores = torch.cat((positive, negative))
    ranks = scores.argsort().argsort().double() + 1
    num = len(positive)
    return float((ranks[:num].sum() - num * (num + 1) / 2) / (num * len(negative)))


def judge_gate(judge: Judge, rng: np.random.Generator) -> Iterator[Reading]:
    """Gate 6 on renders of unseen individuals: verification, blindness to the place, attributes."""
    scenes: list[Scene] = []
    for number in range(144):
        thing = (
            CONCEPTS[number % len(CONCEPTS)].thing if number < len(CONCEPTS) else random_thing(rng, NOUNS[number % 12])
        )
        companions = rng.choice([None, *COMPANIONS], 4)
        scenes += [
            Scene(thing, str(place), companions[i])
            for i, place in enumerate(rng.choice(list(PLACES), 4, replace=False))
        ]
    answers, identity = read(judge, scenes, rng)
    views = identity.unflatten(0, (-1, 4))  # [individual view c]
    same = torch.cat([(views[:, i] * views[:, j]).sum(-1) for i in range(4) for j in range(i)])
    noun = torch.tensor([NOUNS.index(s.thing.noun) for s in scenes[::4]])
    cosine = views[:, 0] @ views[:, 1].T
    apart = ~torch.eye(len(views), dtype=torch.bool)
    yield reading("6", "verification, area under ROC, strangers of any noun", auc(same, cosine[apart]), 0.98)
    alike = apart & (noun[:, None] == noun[None])
    yield reading("6", "verification, area under ROC, strangers of the same noun", auc(same, cosine[alike]), 0.98)
    for question in QUESTIONS:
        told = {
            "noun": lambda s: s.thing.noun,
            "place": lambda s: s.place,
            "companion": lambda s: s.companion or "nothing",
            "style": lambda s: s.style,
        }
        if question == "style":
            scenes = [Scene(random_thing(rng), str(rng.choice(list(PLACES))), None, STYLES[i % 4]) for i in range(200)]
            answers, _ = read(judge, scenes, rng)
        right = [
            QUESTIONS[question][int(a)] == told[question](s)
            for a, s in zip(answers[question].argmax(1), scenes, strict=True)
        ]
        yield reading("6", f"attribute {question}, share right on renders", float(np.mean(right)), 0.97)
    yield reading(
        "6", "true pictures in new places against known ones, likeness ratio", place_blindness(judge, rng), 0.95
    )


def place_blindness(judge: Judge, rng: np.random.Generator) -> float:
    """Likeness of true pictures in new places over that in the places of the references, mean over the concepts."""
    ratios = []
    for thing in CONCEPTS:
        known = normalize(read(judge, [Scene(thing.thing, p) for p in thing.places("home")], rng)[1].mean(0), dim=0)
        home = thing.places("home")[0]
        new = [p for p in PLACES if p != home]
        strangers = [Scene(random_thing(rng, thing.thing.noun), p) for p in PLACES for _ in range(2)]
        base = (read(judge, strangers, rng)[1] @ known).mean()
        there = (read(judge, [Scene(thing.thing, p) for p in new], rng)[1] @ known).mean() - base
        here = (read(judge, [Scene(thing.thing, home)] * len(new), rng)[1] @ known).mean() - base
        ratios.append(float(there / here))
    return float(np.mean(ratios))


@torch.no_grad()
def read(judge: Judge, scenes: list[Scene], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """The judge on renders of these scenes."""
    return judge(to_tensor([render(scene, rng) for scene in scenes]))


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
        yield reading("3", f"brightness of the sky, {place}: drawn minus true", float(np.mean(values) - true))


def noun_places(model: TinyModel, prompt: str, noun: str) -> list[int]:
    """Slots of the noun's tokens in a prompt's context."""
    ids, words = model.encoders["clip_l"].tokenize(prompt), model.encoders["clip_l"].tokenize(noun)
    start = next(i for i in range(len(ids)) if ids[i : i + len(words)] == words)
    return [1 + start + i for i in range(len(words))]


@torch.no_grad()
def noun_maps(model: TinyModel, latents: Tensor, text: Text, slots: list[int], timestep: int) -> dict[LayerId, Tensor]:
    """Each layer's attention on the noun's slots, mean over heads, [b h w]."""
    maps: dict[LayerId, Tensor] = {}

    def rule(call: AttentionCall) -> Tensor:
        q, k = (x.unflatten(-1, (call.heads, -1)).transpose(1, 2) for x in (call.q, call.k))
        odds = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)  # [b heads n t]
        maps[call.layer] = odds[..., slots].sum(-1).mean(1).unflatten(-1, call.grid)
        return call.plain()

    sigma = torch.full((len(latents),), sd_schedule().sigma(timestep))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(timestep))
    rows = Text(text.hidden.expand(len(latents), -1, -1))
    model.denoise(latents + sigma[:, None, None, None] * noise, sigma, rows, rule)
    return maps


def attention_gate(world: World, timestep: int = 500, pictures_each: int = 4) -> Iterator[Reading]:
    """Gate 2: the noun's attention map finds the object; per resolution the mean of its layers' maps."""
    rng = np.random.default_rng(SEED + 2)
    found: dict[int, list[float]] = {}
    by_layer: dict[LayerId, list[float]] = {}
    for noun in NOUNS:
        for place in rng.choice([p for p in PLACES if p not in NEVER.get(noun, ())], 3, replace=False):
            thing = random_thing(rng, noun)
            rendered = [render(Scene(thing, str(place)), rng) for _ in range(pictures_each)]
            prompt = f"{article(look_in_words(thing))} {PLACES[str(place)]}"
            with torch.no_grad():
                latents = world.codec.encode(to_tensor(rendered))
            maps = noun_maps(
                world.model, latents, encode_text(world.model, prompt), noun_places(world.model, prompt, noun), timestep
            )
            collect(maps, rendered, found, by_layer)
    scores = {side: float(np.mean(values)) for side, values in found.items()}
    for side, score in sorted(scores.items(), reverse=True):
        yield reading("2", f"noun's map against the object's mask at {side} x {side}, area under ROC", score)
    yield reading("2", "second best resolution, area under ROC", sorted(scores.values())[-2], 0.85)
    for layer, values in by_layer.items():
        yield reading("2", f"  layer {layer.stage}{layer.block}", float(np.mean(values)))


def collect(
    maps: dict[LayerId, Tensor],
    rendered: list[Rendered],
    found: dict[int, list[float]],
    by_layer: dict[LayerId, list[float]],
) -> None:
    """Adds each picture's area under ROC, by resolution (mean map) and by layer."""
    masks = torch.from_numpy(np.stack([np.asarray(p.mask) for p in rendered])).float()[:, None] / 255
    sides = {layer: planes.shape[-1] for layer, planes in maps.items()}
    for side in set(sides.values()):
        inside = avg_pool2d(masks, masks.shape[-1] // side)[:, 0] > 0.5
        groups = {layer: planes for layer, planes in maps.items() if sides[layer] == side}
        mean = torch.stack([p / p.mean(dim=(1, 2), keepdim=True) for p in groups.values()]).mean(0)
        for i in range(len(rendered)):
            found.setdefault(side, []).append(auc(mean[i][inside[i]], mean[i][~inside[i]]))
            for layer, planes in groups.items():
                by_layer.setdefault(layer, []).append(auc(planes[i][inside[i]], planes[i][~inside[i]]))


@torch.no_grad()
def window_gate(world: World, judge: Judge) -> Iterator[Reading]:
    """Gate 4: the timestep at which the judged x0 prediction has the place right half the time."""
    from ..sample import sample_latents
    from ..samplers import Step

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


def is_low_prior(thing: HeldOut, place: str) -> bool:
    """Whether the base has never seen the object's noun in the place."""
    return place in NEVER[thing.thing.noun]
