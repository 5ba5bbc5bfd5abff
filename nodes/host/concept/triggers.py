"""Teaches a CLIP the trigger words of concepts, so that every prompt node of the host understands them.

The host's tokenizer objects are shared by all clones of a CLIP: they are copied, never edited.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ....dci_core.errors import BadConcept

ENCODER = "clip_"  # the host names a CLIP's tokenizers and text encoders clip_l, clip_g, clip_h


def encoder_names(clip: Any) -> list[str]:
    """Names of the text encoders of a CLIP, as the concept file has them."""
    found = [
        name for name, value in vars(clip.tokenizer).items() if name.startswith(ENCODER) and hasattr(value, "tokenizer")
    ]
    return sorted(found, key=lambda name: (name != "clip_l", name))


class TriggerTokenizer:
    """A host's word tokenizer that gives a concept's vectors for its trigger word and leaves all other words alone.

    rows  per trigger word its modifier tokens, one vector each
    """

    def __init__(self, plain: Any, rows: Mapping[str, tuple[Tensor, ...]]) -> None:
        self.plain, self.rows = plain, dict(rows)
        words = sorted(map(re.escape, self.rows), key=len, reverse=True)
        self.pattern = re.compile(rf"(?<!\w)({'|'.join(words)})(?!\w)", re.IGNORECASE)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "plain" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.plain, name)

    def __call__(self, text: str, *args: Any, **kwargs: Any) -> Any:
        """What the plain tokenizer gives, with vectors among the ids where a trigger stands."""
        parts = self.pattern.split(text)
        if len(parts) == 1:
            return self.plain(text, *args, **kwargs)
        begin, end = marks_of(self.plain)
        ids: list[Any] = []
        for index, part in enumerate(parts):
            ids += self.rows[part.lower()] if index % 2 else words_of(self.plain, part)
        return {"input_ids": [*begin, *ids, *end]}


def marks_of(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The begin and end marks that a tokenizer puts around every text."""
    empty = tokenizer("")["input_ids"]
    return list(empty[:1]), list(empty[1:])


def words_of(tokenizer: Any, text: str) -> list[Any]:
    """Ids of the words of a text, marks left out."""
    begin, end = marks_of(tokenizer)
    ids = tokenizer(text)["input_ids"]
    return list(ids[len(begin) : len(ids) - len(end)])


def with_trigger(clip: Any, trigger: str, tokens: Mapping[str, Tensor]) -> Any:
    """A clone of the CLIP that knows one more trigger word; tokens per text encoder, [T c]. Raises BadConcept."""
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    for name in encoder_names(clip):
        mine = copy.copy(getattr(clip.tokenizer, name))
        known = mine.tokenizer
        rows = dict(known.rows) if isinstance(known, TriggerTokenizer) else {}
        if trigger.lower() in rows:
            raise BadConcept(
                f"two concepts have the trigger {trigger!r}",
                "one word for each is expected",
                "save one under another word",
            )
        rows[trigger.lower()] = tuple(row.detach().float().cpu() for row in tokens[name])
        mine.tokenizer = TriggerTokenizer(known.plain if isinstance(known, TriggerTokenizer) else known, rows)
        setattr(clone.tokenizer, name, mine)
    return clone


def rows_of(clip: Any, encoder: str, trigger: str) -> tuple[Tensor, ...]:
    """The vectors that stand for a trigger in one encoder; nothing when the CLIP does not know it."""
    tokenizer = getattr(clip.tokenizer, encoder).tokenizer
    return tokenizer.rows.get(trigger.lower(), ()) if isinstance(tokenizer, TriggerTokenizer) else ()
