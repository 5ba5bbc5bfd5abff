"""Teaches a CLIP the trigger words of concepts, so that every prompt node of the host understands them.

The host's tokenizer objects are shared by all clones of a CLIP: they are copied, never edited.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import BadConcept, BadSettings

UNHELD = ("return_tensors", "padding", "truncation")
ENCODER = "clip_"  # the host's names of CLIP's own tokenizers begin so, and those of their tokens do not
Row = Tensor | int  # what stands for a modifier token: its vector, or an id where a model takes ids alone


def stream_names(clip: Any) -> list[str]:
    """Names of the tokenizers of a CLIP: of its text encoders, and of what the model itself reads as ids."""
    found = [name for name, value in vars(clip.tokenizer).items() if hasattr(value, "tokenizer")]
    known = [name.removeprefix(ENCODER) if is_renamed(clip, name) else name for name in found]
    return sorted(known, key=lambda name: (name != "clip_l", name))


def is_renamed(clip: Any, name: str) -> bool:
    """Whether a tokenizer is called as CLIP's are and its text encoder is not: PixArt's and Chroma's T5."""
    networks, short = clip.cond_stage_model, name.removeprefix(ENCODER)
    return not hasattr(networks, name) and hasattr(networks, short)


def tokenizer_name(clip: Any, encoder: str) -> str:
    """The attribute under which a CLIP keeps the tokenizer of an encoder."""
    return encoder if hasattr(clip.tokenizer, encoder) else ENCODER + encoder


def tokenizer_of(clip: Any, encoder: str) -> Any:
    """The host's tokenizer of an encoder."""
    return getattr(clip.tokenizer, tokenizer_name(clip, encoder))


def encoder_names(clip: Any) -> list[str]:
    """Names of the text encoders of a CLIP, as the concept file has them."""
    return [name for name in stream_names(clip) if getattr(clip.cond_stage_model, name, None) is not None]


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

    rows  per trigger word its modifier tokens, one vector, or one id that no word has, each
    """

    def __init__(self, plain: Any, rows: Mapping[str, tuple[Row, ...]]) -> None:
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
            ids += words_of(self.plain, text[place : found.start()].rstrip(" "))  # a blank counts to the next word
            ids += self.rows[self.words[(found.lastindex or 1) - 1]]
            place = found.end()
        return [*begin, *ids, *words_of(self.plain, text[place:]), *end]


def marks_of(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The begin and end marks that a tokenizer puts around every text; one alone is the end's unless called a begin."""
    empty = list(tokenizer("")["input_ids"])
    begins = len(empty) > 1 or (len(empty) == 1 and empty[0] == getattr(tokenizer, "bos_token_id", None))
    return (empty[:1], empty[1:]) if begins else ([], empty)


def words_of(tokenizer: Any, text: str) -> list[Any]:
    """Ids of the words of a text, marks left out."""
    begin, end = marks_of(tokenizer)
    ids = tokenizer(text)["input_ids"]
    return list(ids[len(begin) : len(ids) - len(end)])


def around_prompts(tokenizer: Any) -> tuple[str, str]:
    """What a tokenizer writes before and behind every prompt."""
    before, _, behind = getattr(tokenizer, "llama_template", "{}").partition("{}")
    return before, behind


def with_trigger(
    clip: Any, trigger: str, tokens: Mapping[str, Tensor], reserved: Mapping[str, Sequence[int]] | None = None
) -> Any:
    """A clone of the CLIP that knows one more trigger word. Raises BadConcept.

    tokens    per text encoder, [T c]
    reserved  per tokenizer whose ids the model reads itself: ids that stand for modifier tokens there
    """
    clone = clip.clone()
    clone.tokenizer = copy.copy(clip.tokenizer)
    count = len(next(iter(tokens.values())))
    chosen = {name: tuple(ids[:count]) for name, ids in (reserved or {}).items()}
    for name in (name for name in stream_names(clip) if name in tokens or name in chosen):
        mine = copy.copy(tokenizer_of(clip, name))
        known = mine.tokenizer
        rows = dict(known.rows) if isinstance(known, TriggerTokenizer) else {}
        if trigger.lower() in rows:
            raise BadConcept(
                f"two concepts have the trigger {trigger!r}",
                "one word for each is expected",
                "save one under another word",
            )
        vectors = chosen.get(name) or tokens[name].detach().float().cpu()
        rows[trigger.lower()] = tuple(row if isinstance(row, int) else row.as_subclass(TokenVector) for row in vectors)
        mine.tokenizer = TriggerTokenizer(known.plain if isinstance(known, TriggerTokenizer) else known, rows)
        setattr(clone.tokenizer, tokenizer_name(clip, name), mine)
    return clone


def rows_of(clip: Any, encoder: str, trigger: str) -> tuple[Row, ...]:
    """The vectors or ids that stand for a trigger in one encoder; nothing when the CLIP does not know it."""
    tokenizer = tokenizer_of(clip, encoder).tokenizer
    return tokenizer.rows.get(trigger.lower(), ()) if isinstance(tokenizer, TriggerTokenizer) else ()
