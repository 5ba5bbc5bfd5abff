"""What ICO learns in the text: modifier tokens, shared by all pictures, and contexts, private to each picture.

A row of the text encoder's input, slot by slot (Jin et al., ECCV 2024, training of ICO):

    begin | prefix context (n) | words before | modifier tokens (T) | class noun (c) | words after
          | suffix context (m) | end, padding

Only prefix, modifier and suffix slots receive a gradient. A second text encoder may take ids alone, in which nothing
can be learned: there the contexts are their words, and ids that no word has stand for the modifier tokens. The words
come from an optional caption; without one the contexts alone surround the concept, as in the paper. With n = m = 0
this is fixed-template fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import BadSettings
from ..model import TokenEncoder
from ..text.captions import Caption, tokenize

Positions = Literal["reference", "corrected"]
RARE_TOKENS = (42170, 47629, 43514)  # released code: CLIP ids; the last modifier token starts from the first of them
CONTEXT_STD = 0.02  # released code: contexts without words


@dataclass(frozen=True)
class ContextWords:
    """What the contexts start from: words, or a number of random vectors (0: no context on that side)."""

    prefix: str | int = "A"
    suffix: str | int = "."
    positions: Positions = "corrected"


@dataclass(frozen=True)
class Layout:
    """One encoder's row for one caption, before the learned rows are put in.

    rows     [length c], frozen rows of the token table, positions not added
    prefix, tokens, suffix   slots of the learned rows
    shift    [T c], added to the modifier tokens: what the chosen positions differ from the slots' own
    end      slot of the end mark
    """

    rows: Tensor
    prefix: slice
    tokens: slice
    suffix: slice
    shift: Tensor
    end: int


def context_size(encoder: TokenEncoder, words: str | int) -> int:
    """Number of context slots that the words, or the count, ask for."""
    return words if isinstance(words, int) else len(tokenize(encoder, words))


def lay_out(encoder: TokenEncoder, caption: Caption, noun: str, num_tokens: int, words: ContextWords) -> Layout:
    """The slots of one caption; raises PromptTooLong, or BadSettings for a noun without tokens."""
    words_there = (caption.before.rstrip(), f" {noun}", caption.after)  # some tokenizers count a blank to its next word
    before, noun_ids, after = (tokenize(encoder, text) for text in words_there)
    if not noun_ids:
        raise BadSettings(f'the noun "{noun}" has no tokens', "an ordinary word was expected", "name the kind of thing")
    prefix, suffix = (context_ids(encoder, each, noun_ids) for each in (words.prefix, words.suffix))
    n, m, begin = len(prefix), len(suffix), encoder.begin
    ids = prefix + before + modifier_ids(encoder, noun_ids, num_tokens) + noun_ids + after + suffix
    rows = encoder.embed(encoder.frame(ids)).detach().float()
    first = begin + n + len(before)
    end = begin + len(ids)
    tokens = slice(first, first + num_tokens)
    shift = _token_shift(encoder, tokens, n if words.positions == "reference" else 0)
    return Layout(rows, slice(begin, begin + n), tokens, slice(end - m, end), shift, end)


def context_ids(encoder: TokenEncoder, words: str | int, filler: list[int]) -> list[int]:
    """Ids at the slots of a context: its words, or so many of the filler."""
    return filler[:1] * words if isinstance(words, int) else tokenize(encoder, words)


def modifier_ids(encoder: TokenEncoder, filler: list[int], count: int) -> list[int]:
    """Ids at the slots of the modifier tokens; raises BadSettings where fewer are reserved."""
    if not encoder.reserved:
        return filler[:1] * count
    if count > len(encoder.reserved):
        raise BadSettings(
            f"{count} modifier tokens were asked", f"at most {len(encoder.reserved)} were expected", "ask for fewer"
        )
    return list(encoder.reserved[:count])


class LearnedText(nn.Module):
    """Modifier tokens [T c] and contexts [num_images n c], [num_images m c], per text encoder, in fp32.

    `layouts[i]` holds, per encoder, the layout in which picture i's contexts start; it matters only for the start
    of the suffix in `reference` positions.
    """

    def __init__(
        self,
        encoders: Mapping[str, TokenEncoder],
        layouts: Sequence[Mapping[str, Layout]],
        rare_tokens: Mapping[str, Sequence[int]],
        num_tokens: int,
        words: ContextWords,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.tokens, self.prefix, self.suffix = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for name, encoder in encoders.items():
            if encoder.reserved:
                continue
            self.tokens[name] = nn.Parameter(token_start(encoder, rare_tokens.get(name, ()), num_tokens))
            sides = (("prefix", self.prefix, words.prefix), ("suffix", self.suffix, words.suffix))
            for side, store, asked in sides:
                slots = [getattr(layout[name], side) for layout in layouts]
                if context_size(encoder, asked):
                    starts = [context_start(encoder, asked, s, words.positions, generator) for s in slots]
                    store[name] = nn.Parameter(torch.stack(starts))

    def rows(
        self, images: Sequence[int], layouts: Sequence[Mapping[str, Layout]]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(embeds, ends) for `Model.encode`: per encoder [rows length c] and [rows], these on the CPU."""
        embeds = {
            name: torch.stack([self._row(name, i, layout[name]) for i, layout in zip(images, layouts, strict=True)])
            for name in layouts[0]
        }
        slots = {name: [layout[name].end for layout in layouts] for name in layouts[0]}
        ends = {name: torch.tensor(each) for name, each in slots.items()}
        return embeds, ends

    @property
    def device(self) -> torch.device:
        """Where the learned rows are: with the text encoders' tables."""
        return next(iter(self.tokens.values())).device

    def _row(self, name: str, image: int, layout: Layout) -> Tensor:
        rows, at = layout.rows, layout
        if name not in self.tokens:
            return rows
        prefix = self.prefix[name][image] if name in self.prefix else rows[at.prefix]
        suffix = self.suffix[name][image] if name in self.suffix else rows[at.suffix]
        tokens = self.tokens[name] + layout.shift
        before, after = rows[at.prefix.stop : at.tokens.start], rows[at.tokens.stop : at.suffix.start]
        whole = [rows[: at.prefix.start], prefix, before, tokens, after, suffix, rows[at.suffix.stop :]]
        return torch.cat(whole)  # [length c]


def token_start(encoder: TokenEncoder, rare_tokens: Sequence[int], count: int) -> Tensor:
    """[count c], rows of rare vocabulary entries; the last token takes the first entry, as the released code does."""
    if len(rare_tokens) < count:
        raise BadSettings(
            f"{count} modifier tokens were asked", f"at most {len(rare_tokens)} were expected", "ask for fewer tokens"
        )
    ids = torch.tensor(list(reversed(rare_tokens[:count])), dtype=torch.long)
    return encoder.embed(ids).detach().float().clone()


def context_start(
    encoder: TokenEncoder, words: str | int, slots: slice, positions: Positions, generator: torch.Generator
) -> Tensor:
    """[slots c], where one picture's prefix or suffix context starts, positions not added.

    `reference` starts from what the released code puts in after the position table was added: words carry the
    positions of their own short text, random rows carry none. The encoder will add the slots' positions, so the
    difference is taken off here; afterwards the rows are free, and both modes behave the same.
    """
    table = encoder.positions().detach().float()
    if isinstance(words, int):
        noise = torch.randn(words, table.shape[1], generator=generator) * CONTEXT_STD
        rows, own = noise.to(table.device), torch.zeros_like(table[:words])
    else:
        ids = torch.tensor(tokenize(encoder, words), dtype=torch.long)
        rows, own = encoder.embed(ids).detach().float(), table[1 : 1 + len(ids)]
    return rows + (own - table[slots]) if positions == "reference" else rows.clone()


def _token_shift(encoder: TokenEncoder, slots: slice, missing: int) -> Tensor:
    """[T c]; the released code lifts modifier tokens from a caption without the prefix: positions of earlier slots."""
    table = encoder.positions().detach().float()
    return table[slots.start - missing : slots.stop - missing] - table[slots]
