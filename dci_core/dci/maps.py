"""Where the two branches look: attention maps of spans, read beside the ordinary attention of a layer.

Shapes: b pictures, heads, n image tokens, t text tokens, d head width.
Source: Jin et al., ECCV 2024 (arXiv 2412.04831); constants and order of normalisation from the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.call import AttentionCall, AttentionRule
from ..attention.layers import LayerId
from ..attention.spans import attention_probabilities
from ..indices import picker
from ..text.tokens import PairTokens, TokenSet

TOKEN_SHARPNESS = 10.0  # released code: softmax over the words of 10 * attention


@dataclass(frozen=True)
class BranchRows:
    """Rows of an attention batch, paired in order: auxiliary[i] stands in for concept[i]."""

    concept: tuple[int, ...]
    auxiliary: tuple[int, ...]


@dataclass(frozen=True)
class AuxiliaryView:
    """What DBIM reads of the auxiliary branch in one layer.

    out   [rows n (heads d)], what its image tokens read before the output projection (`read_of`)
    noun  [rows heads n], share of its attention on the auxiliary noun; [rows heads n parts] where several stand in
    """

    out: Tensor
    noun: Tensor


SpanMass = Callable[[Tensor], Tensor]
"""probabilities [b heads n t] -> share of attention that falls on a span, [b heads n], in 0..1; on each of several
spans, [b heads n parts]."""


def span_mass(tokens: TokenSet, sharpness: float, device: torch.device) -> SpanMass:
    """What measures the span of a prompt: its words' probabilities go through one more softmax, over the words.

    Words stand before image tokens in memory there, since a softmax over a handful of neighbours is slow.
    Source: released code of Jin et al., ECCV 2024 (methods, 3): softmax over the words of sharpness * attention.
    """
    real, spans = picker(tokens.real, device), [picker(span, device) for span in tokens.spans_in_real]

    def mass(probabilities: Tensor) -> Tensor:
        words = (sharpness * real(probabilities, -1).mT.contiguous()).softmax(dim=-2)  # [b heads words n]
        found = [span(words, -2).sum(dim=-2) for span in spans]
        return torch.stack(found, dim=-1) if tokens.parts else found[0]

    return mass


def read_of(
    call: AttentionCall, out: Tensor, rows: tuple[int, ...], blends_whole: bool, device: torch.device
) -> Tensor:
    """What image tokens of these rows read of the text, or with `blends_whole` of everything, [rows n (heads d)].

    out  the call's plain result
    """
    take = picker(rows, device)
    mine = take(out, 0)
    return mine[:, call.image] if blends_whole else call.of_rows(lambda x: take(x, 0)).text_part(mine)


def text_probabilities(call: AttentionCall, length: int | None) -> Tensor:
    """Attention of the image tokens over the first `length` text slots alone, [rows heads n t]."""
    bias = None if call.bias is None else call.bias[:, :, :length]
    return attention_probabilities(call.image_queries, call.text_keys[:, :, :length], bias)


Views = Callable[[AttentionCall, Tensor], tuple[Tensor, AuxiliaryView]]
"""(call, its plain output) -> (attention on the concept's span [b heads n], the auxiliary rows beside it)."""


def live_views(
    rows: BranchRows, tokens: PairTokens, sharpness: float, device: torch.device, blends_whole: bool = False
) -> Views:
    """Both branches as they run in this very call; an auxiliary row that stands in for several is measured once."""
    mass, noun = (span_mass(each, sharpness, device) for each in (tokens.concept, tokens.auxiliary))
    once = tuple(dict.fromkeys(rows.auxiliary))
    used = tuple(sorted({*rows.concept, *once}))
    both = picker(used, device)
    concept_there, once_there = (picker(tuple(map(used.index, each)), device) for each in (rows.concept, once))
    spread = None if once == rows.auxiliary else picker(tuple(map(once.index, rows.auxiliary)), device)
    lengths = tokens.concept.length, tokens.auxiliary.length

    def look(call: AttentionCall, out: Tensor) -> tuple[Tensor, AuxiliaryView]:
        some = call.of_rows(lambda x: both(x, 0))
        found = text_probabilities(some, lengths[0])
        other = found if lengths[0] == lengths[1] else text_probabilities(some, lengths[1])
        seen = noun(once_there(other, 0))
        read = read_of(call, out, rows.auxiliary, blends_whole, device)
        return mass(concept_there(found, 0)), AuxiliaryView(read, spread(seen, 0) if spread else seen)

    return look


def kept_views(
    kept: Mapping[LayerId, AuxiliaryView], rows: BranchRows, tokens: PairTokens, sharpness: float, device: torch.device
) -> Views:
    """The concept's rows as they run, beside auxiliary rows that an earlier call left."""
    mass = span_mass(tokens.concept, sharpness, device)
    concept, auxiliary = picker(rows.concept, device), picker(rows.auxiliary, device)
    length = tokens.concept.length

    def look(call: AttentionCall, out: Tensor) -> tuple[Tensor, AuxiliaryView]:
        there = kept[call.layer]
        some = call.of_rows(lambda x: concept(x, 0))
        return mass(text_probabilities(some, length)), AuxiliaryView(auxiliary(there.out, 0), auxiliary(there.noun, 0))

    return look


def keeping_rule(
    keep: dict[LayerId, AuxiliaryView],
    layers: Mapping[LayerId, float],
    rows: tuple[int, ...],
    tokens: TokenSet,
    sharpness: float,
    device: torch.device,
    blends_whole: bool = False,
) -> AttentionRule:
    """A rule that changes nothing and leaves in `keep` what DBIM would read of these auxiliary rows.

    layers  shares; a layer without one is not kept
    """
    auxiliary, noun = picker(rows, device), span_mass(tokens, sharpness, device)

    def rule(call: AttentionCall) -> Tensor:
        out = call.plain()
        if layers.get(call.layer, 0.0):
            some = call.of_rows(lambda x: auxiliary(x, 0))
            seen = noun(text_probabilities(some, tokens.length))
            keep[call.layer] = AuxiliaryView(read_of(call, out, rows, blends_whole, device).clone(), seen)
        return out

    return rule
