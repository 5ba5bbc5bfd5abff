"""Captions in plain words; each part of the truth is told or left out by chance."""

from __future__ import annotations

import numpy as np

from .scene import Scene, Thing
from .words import PLACES, RARE_WORDS

Rng = np.random.Generator
STYLE_WORDS = {
    "photo": ("a photo of ", ""),
    "sketch": ("a sketch of ",),
    "blueprint": ("a blueprint of ",),
    "sepia": ("a sepia print of ",),
}


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def look_in_words(thing: Thing) -> str:
    """The object's look, "purple and yellow striped fish with a hat"; shades have no words."""
    colours = thing.first if thing.pattern == "plain" else f"{thing.first} and {thing.second} {thing.pattern}"
    return f"{colours} {thing.noun}" + (f" with a {thing.part}" if thing.part else "")


def caption(scene: Scene, rng: Rng, look_share: float = 0.75) -> str:
    """One caption: the noun always, the look in look_share of cases, place, companion and style nearly always."""
    words = look_in_words(scene.thing) if rng.random() < look_share else scene.thing.noun
    if rng.random() < 0.05:
        words = f"{RARE_WORDS[rng.integers(len(RARE_WORDS))]} {words}"
    told = [article(words)]
    if rng.random() < 0.9:
        told.append(PLACES[scene.place])
    if scene.companion and rng.random() < 0.95:
        told.append(f"next to a {scene.companion}")
    lead = STYLE_WORDS[scene.style]
    return (lead[rng.integers(len(lead))] if scene.style == "photo" else lead[0]) + " ".join(told)
