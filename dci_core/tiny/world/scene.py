"""A scene: what is in a picture. Drawing one at random, and rendering it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from .paint import draw_companion, draw_part, pattern_image, styled
from .places import PAINTERS
from .shapes import CROWNS, DETAILS, body_mask, draw
from .words import (
    COLOURS,
    COMPANIONS,
    HOME_SHARE,
    HOMES,
    NEVER,
    NEVER_BESIDE,
    NOUNS,
    PARTS,
    PATTERNS,
    PLACES,
    STYLES,
    Colour,
)

PICTURE_SIZE = 128  # pixels
Rng = np.random.Generator


@dataclass(frozen=True)
class Thing:
    """The main object. Shades are its own: near the named colours, never quite them."""

    noun: str
    pattern: str
    first: str
    second: str
    part: str | None
    shades: tuple[Colour, Colour]

    @property
    def look(self) -> tuple[str, str, frozenset[str]]:
        """What a held-out object must not share with any training picture."""
        return self.noun, self.pattern, frozenset((self.first, self.second))


@dataclass(frozen=True)
class Scene:
    """One picture's content."""

    thing: Thing
    place: str
    companion: str | None = None
    style: str = "photo"


def shade(colour: str, rng: Rng, spread: float = 10.0) -> Colour:
    """A colour near the named one; spread is the standard deviation in 8-bit steps."""
    near = np.clip(np.array(COLOURS[colour]) + rng.normal(0, spread, 3), 0, 255)
    return int(near[0]), int(near[1]), int(near[2])


def random_thing(rng: Rng, noun: str | None = None) -> Thing:
    """An individual of a random look, plain in a third of cases."""
    noun = noun or NOUNS[rng.integers(len(NOUNS))]
    pattern = "plain" if rng.random() < 0.3 else PATTERNS[rng.integers(1, len(PATTERNS))]
    first, second = rng.choice(list(COLOURS), 2, replace=False)
    if pattern == "plain":
        second = first
    part = PARTS[rng.integers(len(PARTS))] if rng.random() < 0.4 else None
    return Thing(noun, pattern, str(first), str(second), part, (shade(first, rng), shade(second, rng)))


def random_place(noun: str, rng: Rng) -> str:
    """Mostly the noun's home; never one of the places it is never seen in."""
    home = HOMES[noun]
    if home and rng.random() < HOME_SHARE:
        return home
    others = [place for place in PLACES if place not in NEVER.get(noun, ())]
    return others[rng.integers(len(others))]


def random_scene(rng: Rng, held_out: frozenset[tuple[str, str, frozenset[str]]] = frozenset()) -> Scene:
    """A training scene: skewed places, a companion in 40%, a style in 12%; no held-out look."""
    thing = random_thing(rng)
    while thing.look in held_out:
        thing = random_thing(rng)
    beside = [name for name in COMPANIONS if name != NEVER_BESIDE.get(thing.noun)]
    companion = beside[rng.integers(len(beside))] if rng.random() < 0.4 else None
    style = STYLES[rng.integers(1, len(STYLES))] if rng.random() < 0.12 else STYLES[0]
    return Scene(thing, random_place(thing.noun, rng), companion, style)


@dataclass(frozen=True)
class Pose:
    """Where and how the object stands in the finished picture.

    x, y         its centre, as parts of the picture's width and height
    half         half its width, as a part of the picture's
    is_mirrored  whether the whole picture is flipped, left to right
    """

    x: float
    y: float
    half: float
    is_mirrored: bool

    @property
    def centre(self) -> tuple[float, float]:
        """Where it is painted, before the picture is flipped."""
        return (1 - self.x if self.is_mirrored else self.x), self.y


@dataclass(frozen=True)
class Rendered:
    """A picture and where its object is; both PICTURE_SIZE square, mask "L" with 255 on the object."""

    picture: Image.Image
    mask: Image.Image


def render(scene: Scene, rng: Rng, pose: Pose | None = None) -> Rendered:
    """The scene as a picture, with the object's own small chances of place, size and side, or in that pose.

    A pose takes the same numbers from rng: the rest of the picture is what it would be without.
    """
    size, thing = 2 * PICTURE_SIZE, scene.thing  # drawn twice as large, then averaged: smooth edges
    picture = PAINTERS[scene.place](rng, size)
    canvas = ImageDraw.Draw(picture)
    alone = scene.companion is None
    half = size * (0.33 if alone else 0.29) * rng.uniform(0.93, 1.07)
    centre = (size * ((0.5 if alone else 0.37) + rng.uniform(-0.03, 0.03)), size * (0.56 + rng.uniform(-0.03, 0.03)))
    if pose is not None:
        half, centre = size * pose.half, (size * pose.centre[0], size * pose.centre[1])
    if scene.companion:
        beside = (size * (0.83 + rng.uniform(-0.02, 0.02)), size * (0.66 + rng.uniform(-0.02, 0.02)))
        draw_companion(scene.companion, canvas, beside, size * 0.2)
    mask = paint_thing(picture, thing, centre, half)
    small, small_mask = picture.reduce(2), mask.convert("L").reduce(2)
    by_chance = rng.random() < 0.5
    if by_chance if pose is None else pose.is_mirrored:
        small, small_mask = ImageOps.mirror(small), ImageOps.mirror(small_mask)
    return Rendered(styled(small, scene.style), small_mask)


def paint_thing(picture: Image.Image, thing: Thing, centre: tuple[float, float], half: float) -> Image.Image:
    """Paints the object on a square picture and returns its mask, "RGB" and white on it; centre and half in pixels."""
    size, canvas = picture.width, ImageDraw.Draw(picture)
    outline = body_mask(thing.noun, centre, half, size)
    filling = pattern_image(thing.pattern, *thing.shades, centre, half, size)
    mask = Image.new("RGB", (size, size))
    mask_canvas = ImageDraw.Draw(mask)
    picture.paste(filling, mask=outline)
    mask.paste((255, 255, 255), mask=outline)
    for piece, colour in DETAILS[thing.noun]:
        draw((piece,), canvas, centre, half, colour)
        draw((piece,), mask_canvas, centre, half, (255, 255, 255))
    if thing.part:
        x, y = CROWNS[thing.noun]
        draw_part(thing.part, canvas, (centre[0] + half * x, centre[1] + half * y), half)
    return mask
