"""Where the concept and its stand-in stand in their prompts."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import SpanNotFound


@dataclass(frozen=True)
class TokenSet:
    """Slots of one prompt in its context, counted over the whole context (slot 0 is the first begin mark).

    span  slots of the words that are looked for
    real  slots of every word; begin marks, end marks and padding of each chunk are left out
    """

    span: tuple[int, ...]
    real: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.span or not set(self.span) <= set(self.real):
            raise SpanNotFound(
                f"slots {list(self.span)} were named among the prompt's {list(self.real)}",
                "at least one, and each a word of the prompt, is expected",
                "name a word that the prompt holds",
            )

    @property
    def span_in_real(self) -> tuple[int, ...]:
        """The span as positions within `real`."""
        return tuple(self.real.index(slot) for slot in self.span)


@dataclass(frozen=True)
class PairTokens:
    """The two prompts of a pair as slots: what DBIM needs to know of the text."""

    concept: TokenSet
    auxiliary: TokenSet
