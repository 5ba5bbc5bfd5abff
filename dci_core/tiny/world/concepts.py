"""The objects to learn: twenty of looks that no training picture shows, and more for large studies.

All are in shades that no caption names.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from .scene import Rendered, Scene, Thing, render, shade
from .words import COLOURS, HOMES, NEVER, PARTS, PATTERNS, PLACES

REFERENCE_COUNT = 5
SHADE_SEED, SEEN_SEED = 7300, 8100
KINDS = ("home", "varied")  # of reference pictures: all in one place, or in five

LOOKS = (  # noun, pattern, first, second, part
    ("fish", "striped", "purple", "yellow", "hat"),
    ("bird", "dotted", "red", "white", "crown"),
    ("turtle", "checkered", "blue", "orange", "bow"),
    ("butterfly", "split", "green", "purple", "crown"),
    ("car", "striped", "green", "white", "bow"),
    ("boat", "dotted", "orange", "blue", "crown"),
    ("rocket", "checkered", "red", "yellow", "bow"),
    ("teapot", "split", "blue", "yellow", "hat"),
    ("mushroom", "striped", "blue", "white", "bow"),
    ("fish", "checkered", "green", "orange", "crown"),
    ("bird", "striped", "blue", "yellow", "hat"),
    ("turtle", "dotted", "yellow", "purple", "crown"),
    ("butterfly", "checkered", "red", "white", "bow"),
    ("car", "split", "purple", "orange", "crown"),
    ("boat", "striped", "red", "green", "hat"),
    ("rocket", "dotted", "green", "white", "crown"),
    ("teapot", "checkered", "purple", "white", "bow"),
    ("mushroom", "split", "green", "orange", "hat"),
    ("fish", "dotted", "blue", "red", "bow"),
    ("turtle", "striped", "red", "white", "hat"),
)


@dataclass(frozen=True)
class HeldOut:
    """One object; number 0..7 is for development, the others for the test; the base was shown looks from 20 on."""

    number: int
    thing: Thing

    @property
    def name(self) -> str:
        """A file-system name, "00-fish"."""
        return f"{self.number:02d}-{self.thing.noun}"

    @property
    def is_development(self) -> bool:
        """Whether choices may be made on this object."""
        return self.number < 8

    def places(self, kind: str) -> list[str]:
        """Places of the reference pictures: kind "home" (one place) or "varied" (five)."""
        home = HOMES[self.thing.noun]
        assert home is not None
        if kind == "home":
            return [home] * REFERENCE_COUNT
        open_places = [place for place in PLACES if place != home and place not in NEVER[self.thing.noun]]
        rng = np.random.default_rng(SHADE_SEED + 100 + self.number)
        return [home, *rng.permutation(open_places)[: REFERENCE_COUNT - 1].tolist()]

    def references(self, kind: str) -> list[Rendered]:
        """The reference pictures, always the same ones."""
        rng = np.random.default_rng(SHADE_SEED + 200 + self.number)
        return [render(Scene(self.thing, place), rng) for place in self.places(kind)]


def _held_out(number: int, look: tuple[str, str, str, str, str]) -> HeldOut:
    noun, pattern, first, second, part = look
    rng = np.random.default_rng(SHADE_SEED + number)
    return HeldOut(number, Thing(noun, pattern, first, second, part, (shade(first, rng, 14), shade(second, rng, 14))))


CONCEPTS = tuple(_held_out(number, look) for number, look in enumerate(LOOKS))
HELD_OUT_LOOKS = frozenset(concept.thing.look for concept in CONCEPTS)


def _seen_objects() -> tuple[HeldOut, ...]:
    """Of every noun that has a home, one object of each pattern; no look twice."""
    rng, found, taken = np.random.default_rng(SEEN_SEED), list[HeldOut](), set(HELD_OUT_LOOKS)
    colours = [colour for colour in COLOURS if colour != "black"]  # its shades hardly differ
    for noun, pattern in product((noun for noun, home in HOMES.items() if home), PATTERNS[1:]):
        part, first, second = rng.choice(PARTS), *rng.choice(colours, 2, replace=False)
        while (noun, pattern, frozenset((first, second))) in taken:
            first, second = rng.choice(colours, 2, replace=False)
        found.append(_held_out(len(CONCEPTS) + len(found), (noun, pattern, str(first), str(second), str(part))))
        taken.add(found[-1].thing.look)
    return tuple(found)


SEEN = _seen_objects()
"""36 more test objects. The base was shown their looks, told in words, so a study reports them apart."""
OBJECTS = (*CONCEPTS, *SEEN)
