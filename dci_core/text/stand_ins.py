"""Ordinary nouns that stand in for a concept in the auxiliary prompt, and the choice of one by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BadSettings
from ..families.table import FAMILIES

AUTO = "auto"
KIN = {  # words of the same kind as a stand-in, which is then no other kind
    "cat": ("kitten", "kitty", "tabby", "feline"),
    "dog": ("puppy", "pup", "hound", "canine"),
    "bird": ("parrot", "owl", "duck", "chicken", "robin", "penguin"),
    "car": ("truck", "van", "jeep", "vehicle", "automobile"),
}


def stand_in_for(
    asked: str, noun: str, prompt: str, whole: str = "", others: Sequence[str] = (), family: str = ""
) -> str:
    """The noun that was asked for; of "auto" the first of the family's stand-ins that is another kind and unused.

    noun    the concept's class
    prompt  with the concept in it; a noun that is there already would be found in the wrong place
    whole   an auxiliary prompt of the user's own, in which "auto" has nothing to choose
    others  nouns that stand for other concepts of the picture, and their classes
    raises  BadSettings
    """
    if asked.strip().lower() != AUTO:
        return asked
    if whole.strip():
        raise BadSettings(
            f'the auxiliary noun is "{AUTO}", and an auxiliary prompt came',
            "the noun that it holds is expected",
            "write that noun, or empty the auxiliary prompt",
        )
    candidates = FAMILIES[family].stand_ins if family in FAMILIES else tuple(KIN)
    used = words_of(" ".join((noun, prompt, *others)))
    found = next((one for one in candidates if not used & {one, *KIN.get(one, ())}), None)
    if found is None:
        raise BadSettings(
            f'the auxiliary noun is "{AUTO}", and the prompt "{prompt}" names {", ".join(candidates)} already',
            "a noun of another kind that is not in it is expected",
            "write one",
        )
    return found


def words_of(text: str) -> set[str]:
    """Its words in lower case, of a plural the singular too."""
    words = set(re.findall(r"\w+", text.lower()))
    return words | {word[:-1] for word in words if word.endswith("s")}
