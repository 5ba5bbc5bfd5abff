"""Teaches a CLIP the trigger words of concepts, so that every prompt node of the host understands them.

The host's tokenizer objects are shared by all clones of a CLIP: they are copied, never edited.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import BadConcept, BadSettings

UNHELD = ("return_tensors", "padding", "truncation")
ENCODER = "clip_"  # the host names a CLIP's tokenizers and text encoders clip_l, clip_g, clip_h


def encoder_names(clip: Any) -> list[str]:
    """Names of the text encoders of a CLIP, as the concept file has them."""
    found = [
        name for name, value in vars(clip.tokenizer).items() if name.startswith(ENCODER) and hasattr(value, "tokenizer")
    ]
    return sorted(found, key=lambda name: (name != "clip_l", name))


class TokenVector(Tensor):
    """A modifier token's vector among ids [c]: beside an id it is simply another token, whoever compares them."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return self is other

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return self is not other

    def __hash__(self) -> int:
        return id(self)


class TriggerTokenizer:
    """A host's word tokenizer that gives a concept's vectors for its trigger word and leaves all other words alone.

    rows  per trigger word its modifier tokens, one vector each
    """

    def __init__(self, plain: Any, rows: Mapping[str, tuple[Tensor, ...]]) -> None:
        self.plain, self.rows = plain, dict(rows)
        self.words = sorted(self.rows, key=len, reverse=True)
        choices = "|".join(f"({re.escape(word)})" for word in self.words)
        self.pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "plain" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.plain, name)

    def __call__(self, text: Any, *args: Any, add_special_tokens: bool = True, **kwargs: Any) -> Any:
        """What the plain tokenizer gives, with vectors among the ids where a trigger stands.

        text  one text, or a list of texts as some prompt nodes ask
        raises BadSettings where ids are wanted in a form that cannot hold vectors
        """
        texts = [text] if isinstance(text, str) else text
        if not self.knows(texts):
            special = {} if add_special_tokens else {"add_special_tokens": False}
            return self.plain(text, *args, **special, **kwargs)
        if wanted := [name for name, value in kwargs.items() if value and name in UNHELD]:
            raise BadSettings(
                f"another node asks for the words of a prompt with {wanted[0]}",
                "a plain list of tokens is expected, since a trigger stands for vectors",
                "take the trigger out of that prompt, or use CLIP Text Encode",
            )
        ids = [self.ids_of(one, add_special_tokens) for one in texts]
        return {"input_ids": ids[0] if isinstance(text, str) else ids}

    def encode(self, text: str, add_special_tokens: bool = True, **kwargs: Any) -> list[Any]:
        """The ids alone, as `transformers` gives them."""
        return list(self(text, add_special_tokens=add_special_tokens, **kwargs)["input_ids"])

    def knows(self, texts: Any) -> bool:
        """Whether these are texts of which one holds a trigger."""
        are_texts = isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)
        return are_texts and any(map(self.pattern.search, texts))

    def ids_of(self, text: str, has_marks: bool = True) -> list[Any]:
        """Ids and vectors of one text."""
        begin, end = marks_of(self.plain) if has_marks else ([], [])
        ids: list[Any] = []
        place = 0
        for found in self.pattern.finditer(text):
            ids += words_of(self.plain, text[place : found.start()])
            ids += self.rows[self.words[(found.lastindex or 1) - 1]]
            place = found.end()
        return [*begin, *ids, *words_of(self.plain, text[place:]), *end]


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
        vectors = tokens[name].detach().float().cpu()
        rows[trigger.lower()] = tuple(row.as_subclass(TokenVector) for row in vectors)
        mine.tokenizer = TriggerTokenizer(known.plain if isinstance(known, TriggerTokenizer) else known, rows)
        setattr(clone.tokenizer, name, mine)
    return clone


def rows_of(clip: Any, encoder: str, trigger: str) -> tuple[Tensor, ...]:
    """The vectors that stand for a trigger in one encoder; nothing when the CLIP does not know it."""
    tokenizer = getattr(clip.tokenizer, encoder).tokenizer
    return tokenizer.rows.get(trigger.lower(), ()) if isinstance(tokenizer, TriggerTokenizer) else ()
