"""Every word of the world, and which of them keep company."""

from __future__ import annotations

import re
from collections.abc import Sequence

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 220, 60),
    "green": (40, 160, 70),
    "blue": (45, 95, 215),
    "purple": (140, 60, 180),
    "white": (245, 245, 245),
    "black": (35, 35, 40),
}

PATTERNS = ("plain", "striped", "dotted", "checkered", "split")
PARTS = ("hat", "crown", "bow")
COMPANIONS = ("ball", "box", "cactus", "lamp", "flower", "balloon")
STYLES = ("photo", "sketch", "blueprint", "sepia")

PLACES: dict[str, str] = {
    "water": "in water",
    "snow": "in snow",
    "night": "at night",
    "desert": "in the desert",
    "forest": "in a forest",
    "bricks": "by a brick wall",
    "city": "in the city",
    "meadow": "on a meadow",
    "kitchen": "in the kitchen",
    "clouds": "above the clouds",
}

HOMES: dict[str, str | None] = {  # where a noun is mostly seen; None: everywhere alike
    "fish": "water",
    "bird": "clouds",
    "turtle": "desert",
    "butterfly": "meadow",
    "car": "city",
    "boat": "water",
    "rocket": "night",
    "teapot": "kitchen",
    "mushroom": "forest",
    "cat": None,
    "star": None,
    "heart": None,
}
NOUNS = tuple(HOMES)
AUXILIARY_NOUNS = tuple(noun for noun, home in HOMES.items() if home is None)
HOME_SHARE = 0.7

NEVER: dict[str, tuple[str, str]] = {  # places a noun is never seen in
    "fish": ("desert", "city"),
    "bird": ("bricks", "kitchen"),
    "turtle": ("clouds", "night"),
    "butterfly": ("snow", "night"),
    "car": ("water", "clouds"),
    "boat": ("bricks", "forest"),
    "rocket": ("kitchen", "meadow"),
    "teapot": ("snow", "water"),
    "mushroom": ("city", "clouds"),
}

NEVER_BESIDE: dict[str, str] = {  # a second object that never stands beside the noun
    "fish": "cactus",
    "bird": "box",
    "turtle": "lamp",
    "butterfly": "ball",
    "car": "flower",
    "boat": "lamp",
    "rocket": "cactus",
    "teapot": "balloon",
    "mushroom": "box",
}

RARE_WORDS = (  # seen in training as words without meaning; modifier tokens start from them
    "zor", "vek", "qua", "mip", "tuv", "jax", "lig", "dru", "fex", "hob", "nym", "pli", "ruk", "sab", "wix", "yad",
)  # fmt: skip

IN_TWO_PIECES = ("butterfly", "mushroom", "teapot", "rocket")  # nouns of two tokens: spans of several are real
LINKS = ("a", "an", "and", "of", "next", "to", "with", "photo", "sketch", "blueprint", "sepia", "print")

WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def every_word() -> list[str]:
    """All words a caption may hold, each once."""
    groups = (
        COLOURS,
        PATTERNS,
        PARTS,
        COMPANIONS,
        NOUNS,
        RARE_WORDS,
        LINKS,
        (w for p in PLACES.values() for w in p.split()),
    )
    return list(dict.fromkeys(word for group in groups for word in group))


def unknown_words(prompts: Sequence[str], own: Sequence[str] = ()) -> list[str]:
    """Words of the prompts that the world has never seen, each once, in lower case.

    own  triggers, which prompts may hold though no caption did

    What stands in braces, numbers and embeddings are no words.
    """
    triggers = "|".join(rf"(?<!\w){re.escape(trigger)}(?!\w)" for trigger in own)
    not_words = re.compile(r"\{[^{}]*\}|embedding:\S+" + (f"|{triggers}" if own else ""), re.IGNORECASE)
    found = [word.lower() for prompt in prompts for word in WORD.findall(not_words.sub(" ", prompt))]
    known = set(every_word())
    return list(dict.fromkeys(word for word in found if word not in known))
