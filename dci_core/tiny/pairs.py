"""Pairs of the small world, painted on the fly: one individual in two scenes, one to read and one to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..dynaip.training.pairs import Bytes, Pair, cut
from ..fingerprint import short_hash
from .world.captions import caption
from .world.concepts import HELD_OUT_LOOKS
from .world.scene import Rendered, Scene, random_scene, render

TINY_WORLD = "tiny-world"
LOOK_SHARE = 0.2  # of captions that name the look: the others leave it to the reference
VERSION = 2  # of the way pairs are made; another one is other data


@dataclass(frozen=True)
class TinyPairs:
    """Endless pairs. Places 2i and 2i + 1 hold the same two pictures, each of them once the target.

    No picture shows a held-out look or a second individual to be learned; companions, styles and places are the
    training world's own, each picture's drawn apart.
    """

    name: str = TINY_WORLD

    def fingerprint(self) -> str:
        """Of the way pairs are made."""
        return short_hash([f"{self.name} {VERSION}".encode()])

    def pair(self, place: int, seed: int, cut_out: float) -> Pair:
        """The pair at that place."""
        number, turn = divmod(place, 2)
        views = paint_individual(number, seed)
        (_, target, words), (reference, _, _) = views[turn], views[1 - turn]
        is_cut = np.random.default_rng((seed, 1, place)).random() < cut_out
        picture, mask = np.asarray(reference.picture), np.asarray(reference.mask)
        return Pair(target, words, cut(picture, mask) if is_cut else picture)


@lru_cache(maxsize=1)
def paint_individual(number: int, seed: int) -> tuple[tuple[Rendered, Bytes, str], ...]:
    """Two views of an individual: what was painted, its pixels, its caption."""
    rng = np.random.default_rng((seed, number))
    first = random_scene(rng, HELD_OUT_LOOKS)
    return tuple(view(scene, rng) for scene in (first, other_scene(first, rng)))


def other_scene(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene around the same individual in another place, its companion and style drawn anew."""
    while True:
        other = random_scene(rng, HELD_OUT_LOOKS)
        if other.thing.noun == scene.thing.noun and other.place != scene.place:
            return replace(other, thing=scene.thing)


def view(scene: Scene, rng: np.random.Generator) -> tuple[Rendered, Bytes, str]:
    """The scene as a picture and its caption."""
    rendered = render(scene, rng)
    return rendered, np.asarray(rendered.picture), caption(scene, rng, LOOK_SHARE)
