"""Two objects side by side in one place: what the small flow model also sees, and never an adapter in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .captions import article, look_in_words
from .concepts import HELD_OUT_LOOKS
from .places import PAINTERS
from .scene import PICTURE_SIZE, Rendered, Thing, paint_thing, random_thing
from .words import NEVER, PLACES

Rng = np.random.Generator
HALF = 0.165  # half an object's width, as a part of the picture's: half as large as an object alone
CENTRES = (0.25, 0.75)  # of the two, from the left


def paint_couple(things: Sequence[Thing], place: str, rng: Rng) -> Rendered:
    """Both objects in one place, the first on the left; the mask shows both."""
    size = 2 * PICTURE_SIZE
    picture = PAINTERS[place](rng, size)
    mask = picture.convert("L").point(lambda _: 0)
    for thing, x in zip(things, CENTRES, strict=True):
        half = size * HALF * rng.uniform(0.93, 1.07)
        painted = paint_thing(picture, thing, (size * x, size * 0.56), half)
        mask.paste(255, mask=painted.convert("L"))
    return Rendered(picture.reduce(2), mask.reduce(2))


def random_couple(rng: Rng) -> tuple[tuple[Thing, Thing], str]:
    """Two objects of no held-out look, and a place that both are seen in."""
    one, other = (allowed_thing(rng) for _ in range(2))
    never = {*NEVER.get(one.noun, ()), *NEVER.get(other.noun, ())}
    places = [place for place in PLACES if place not in never]
    return (one, other), places[rng.integers(len(places))]


def allowed_thing(rng: Rng) -> Thing:
    """An object whose look is not held out, without a hat: captions of two would grow too long for it."""
    while True:
        thing = random_thing(rng)
        if thing.look not in HELD_OUT_LOOKS and thing.part is None:
            return thing


def couple_caption(things: Sequence[Thing], place: str, rng: Rng, look_share: float = 0.75) -> str:
    """ "a red fish in water next to a car": each look in look_share of cases, the first object on the left."""
    return couple_words([look_in_words(x) if rng.random() < look_share else x.noun for x in things], place)


def couple_words(names: Sequence[str], place: str) -> str:
    """Both names in a place, as captions of two put it."""
    one, other = map(article, names)
    return f"{one} {PLACES[place]} next to {other}"
