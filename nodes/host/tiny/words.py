"""What the small worlds do not know of what they are asked."""

from __future__ import annotations

from collections.abc import Sequence

from ....dci_core.tiny.world.words import NOUNS, unknown_words

SMALL_WORLDS = ("tiny", "tiny_flow")


def of_noun(noun: str) -> list[str]:
    """A sentence about a noun that the worlds have never seen, else none."""
    return [] if noun in NOUNS else [f'the tiny world has never seen the noun "{noun}"; it knows {", ".join(NOUNS)}']


def of_prompts(family: str, prompts: Sequence[str], triggers: Sequence[str]) -> list[str]:
    """A sentence about words of the prompts that the family's world has never seen, else none."""
    words = unknown_words(prompts, triggers) if family in SMALL_WORLDS else []
    quoted = ", ".join(f'"{word}"' for word in words)
    return [f"the tiny world has never seen {quoted}; it draws nothing for such words"] if words else []
