"""Gate 6: whether the judge can be believed, on renders of objects that it never saw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import normalize

from ...tiny.judge import QUESTIONS, Judge
from ...tiny.readings import Reading, auc, reading
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.scene import Scene, random_thing, render
from ...tiny.world.words import COMPANIONS, NOUNS, PLACES, STYLES
from .trial import to_tensor


def judge_gate(judge: Judge, rng: np.random.Generator) -> Iterator[Reading]:
    """Gate 6 on renders of unseen individuals: verification, blindness to the place, attributes."""
    scenes: list[Scene] = []
    for number in range(144):
        thing = (
            CONCEPTS[number % len(CONCEPTS)].thing if number < len(CONCEPTS) else random_thing(rng, NOUNS[number % 12])
        )
        companions = rng.choice(np.array([None, *COMPANIONS], dtype=object), 4)
        scenes += [
            Scene(thing, str(place), companions[i])
            for i, place in enumerate(rng.choice(list(PLACES), 4, replace=False))
        ]
    answers, identity = read(judge, scenes, rng)
    views = rearrange(identity, "(i v) c -> i v c", v=4)  # individuals, their views
    same = torch.cat([(views[:, i] * views[:, j]).sum(-1) for i in range(4) for j in range(i)])
    noun = torch.tensor([NOUNS.index(s.thing.noun) for s in scenes[::4]])
    cosine = views[:, 0] @ views[:, 1].T
    apart = ~torch.eye(len(views), dtype=torch.bool)
    yield reading("6", "verification, area under ROC, strangers of any noun", auc(same, cosine[apart]), 0.98)
    alike = apart & (noun[:, None] == noun[None])
    yield reading("6", "verification, area under ROC, strangers of the same noun", auc(same, cosine[alike]), 0.98)
    for question in QUESTIONS:
        if question == "style":
            scenes = [Scene(random_thing(rng), str(rng.choice(list(PLACES))), None, STYLES[i % 4]) for i in range(200)]
            answers, _ = read(judge, scenes, rng)
        right = [
            QUESTIONS[question][int(a)] == truth(s)[question]
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


def truth(scene: Scene) -> dict[str, str]:
    """The right answer to each of the judge's questions."""
    companion = scene.companion or "nothing"
    return {"noun": scene.thing.noun, "place": scene.place, "companion": companion, "style": scene.style}
