"""Where image tokens look in the text: attention over text keys, one block at a time.

Shapes: b rows, heads, n image tokens, t text tokens, d head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..devices import autocast


def attention_probabilities(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Ordinary attention's probabilities over the keys given, [b heads n t], at least in float32.

    q     [b heads n d]
    k     [b heads t d]; a joint block's text keys alone give its attention renormalised over the text
    bias  [b n t], added to the logits; None: nothing
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(wide), k.to(wide)
    with autocast(q.device, None):  # autocast would narrow the product again
        logits = q @ (k * k.shape[-1] ** -0.5).mT  # the text is short: scale that side
        return (logits if bias is None else logits + bias[:, None].to(wide)).softmax(dim=-1)


def share_of_keys(q: Tensor, k: Tensor, which: slice, bias: Tensor | None = None) -> Tensor:
    """Share of each query's attention over all keys that falls on some of them, [b heads n], at least in float32.

    q      [b heads n d]
    k      [b heads m d], every key of the sequence
    which  those whose share is asked
    bias   [b n m], added to the logits; None: nothing
    """
    heads = range(q.shape[1])  # one at a time: n x m of all heads at once would be gigabytes at full size
    each = (attention_probabilities(q[:, h : h + 1], k[:, h : h + 1], bias)[..., which].sum(dim=-1) for h in heads)
    return torch.cat(list(each), dim=1)
