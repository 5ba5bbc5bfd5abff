"""Where image tokens look in the text: attention over text keys, one block at a time.

Shapes: b rows, heads, n image tokens, t text tokens, d head width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..devices import autocast
from ..indices import picker
from ..text.tokens import TokenSet


def attention_probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Ordinary attention's probabilities over the keys given, [b heads n t], at least in float32.

    q  [b heads n d]
    k  [b heads t d]; a joint block's text keys alone give its attention renormalised over the text
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(wide), k.to(wide)
    with autocast(q.device, None):  # autocast would narrow the product again
        return (q @ (k * k.shape[-1] ** -0.5).mT).softmax(dim=-1)  # the text is short: scale that side


def share_of_keys(q: Tensor, k: Tensor, which: slice) -> Tensor:
    """Share of each query's attention over all keys that falls on some of them, [b heads n], at least in float32.

    q      [b heads n d]
    k      [b heads m d], every key of the sequence
    which  those whose share is asked
    """
    heads = range(q.shape[1])  # one at a time: n x m of all heads at once would be gigabytes at full size
    each = (attention_probabilities(q[:, h : h + 1], k[:, h : h + 1])[..., which].sum(dim=-1) for h in heads)
    return torch.cat(list(each), dim=1)


SpanMass = Callable[[Tensor], Tensor]
"""probabilities [b heads n t] -> share of attention that falls on a span, [b heads n], in 0..1."""


def span_mass(tokens: TokenSet, sharpness: float, device: torch.device) -> SpanMass:
    """What measures the span of a prompt: its words' probabilities go through one more softmax, over the words.

    Words stand before image tokens in memory there, since a softmax over a handful of neighbours is slow.
    Source: released code of Jin et al., ECCV 2024 (methods, 3): softmax over the words of sharpness * attention.
    """
    real, span = picker(tokens.real, device), picker(tokens.span_in_real, device)

    def mass(probabilities: Tensor) -> Tensor:
        words = real(probabilities, -1).mT.contiguous()  # [b heads words n]
        return span((sharpness * words).softmax(dim=-2), -2).sum(dim=-2)

    return mass
