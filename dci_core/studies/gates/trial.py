"""Trying a model on a held-out object: the prompts, the pictures, the judge's word on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...dci.branches import DciSettings
from ...dci.run import SampleSettings, sample_latents
from ...model import Model
from ...text.prompts import Prompts
from ...tiny.codec import Codec
from ...tiny.defaults import TINY_SAMPLE
from ...tiny.judge import Judge, Scale, Verdict, make_scale, verdict
from ...tiny.world.concepts import HeldOut
from ...tiny.world.scene import Rendered, Scene, random_thing, render
from ...tiny.world.words import COMPANIONS, HOMES, NEVER, NEVER_BESIDE, PLACES

TRIAL_SEED = 88_000
NUM_STRANGERS = 24
SETTINGS = TINY_SAMPLE


@dataclass(frozen=True)
class Ask:
    """One prompt and what a picture of it must show.

    template      with {concept} where the object stands
    asked         question of the judge -> answer
    is_low_prior  whether the base has never seen the noun so
    """

    template: str
    asked: dict[str, str]
    is_low_prior: bool


def asks_for(thing: HeldOut) -> list[Ask]:
    """Eight prompts, half of them low-prior, fixed by the object's number."""
    noun, rng = thing.thing.noun, np.random.default_rng(TRIAL_SEED + thing.number)
    home, never, never_beside = HOMES[noun], NEVER[noun], NEVER_BESIDE[noun]
    assert home is not None
    seen = rng.permutation([p for p in PLACES if p != home and p not in never]).tolist()
    beside = rng.permutation([c for c in COMPANIONS if c != never_beside]).tolist()

    def ask(place: str, companion: str | None, is_low_prior: bool) -> Ask:
        words = f"a {{concept}} {PLACES[place]}" + (f" next to a {companion}" if companion else "")
        asked = {"place": place} | ({"companion": companion} if companion else {})
        return Ask(words, asked, is_low_prior)

    return [
        ask(home, None, False),
        ask(seen[0], None, False),
        ask(home, beside[0], False),
        ask(seen[1], beside[1], False),
        ask(never[0], None, True),
        ask(never[1], None, True),
        ask(home, never_beside, True),
        ask(never[0], never_beside, True),
    ]


def to_tensor(pictures: Sequence[Rendered]) -> Tensor:
    """[b 3 h w] in 0..1."""
    pixels = torch.from_numpy(np.stack([np.asarray(p.picture) for p in pictures]))
    return pixels.permute(0, 3, 1, 2).float() / 255


def scale_for(judge: Judge, thing: HeldOut, kind: str = "varied") -> Scale:
    """What likeness to this object is measured against; always the same for one judge."""
    rng = np.random.default_rng(TRIAL_SEED + 1000 + thing.number)
    noun, known = thing.thing.noun, set(thing.places(kind))
    others = [place for place in PLACES if place not in known]
    strangers = [random_thing(rng, noun) for _ in range(NUM_STRANGERS)]
    held_out = [render(Scene(thing.thing, others[i % len(others)]), rng) for i in range(12)]
    apart = [render(Scene(other, list(PLACES)[i % len(PLACES)]), rng) for i, other in enumerate(strangers)]
    return make_scale(judge, to_tensor(thing.references(kind)), to_tensor(apart), to_tensor(held_out))


@torch.no_grad()
def pictures_of(
    model: Model,
    codec: Codec,
    prompts: Prompts,
    seeds: Sequence[int],
    settings: SampleSettings = SETTINGS,
    dci: DciSettings | None = None,
) -> Tensor:
    """[b 3 128 128] in 0..1, one picture a seed."""
    return codec.decode(sample_latents(model, prompts, seeds=seeds, settings=settings, dci=dci).concept)


def judged(judge: Judge, pictures: Tensor, scale: Scale, ask: Ask) -> Verdict:
    """The judge's word on pictures of one prompt."""
    return verdict(judge, pictures, scale, ask.asked)
