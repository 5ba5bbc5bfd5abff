"""One block's attention as the methods see it: the seam between model families and methods.

Cross-attention is the case of joint attention in which every query is of the image and every key of the text, so that
all of an image token's attention falls on the text: its text share is 1. A method asks in these words, and knows no
family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .layers import LayerId
from .rows import TokenRows
from .spans import share_of_keys

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(q, k, v, heads) -> hidden, all [rows tokens (heads d)]; the host may supply its fastest kernel."""


def plain_attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Ordinary attention; [rows n (heads d)] in and out. bias [rows n m] is added to the logits; None: nothing."""
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    added = None if bias is None else bias[:, None].to(q.dtype)
    return rearrange(scaled_dot_product_attention(q, k, v, attn_mask=added), "rows heads n d -> rows n (heads d)")


def split_heads(x: Tensor, heads: int) -> Tensor:
    """A view with the heads apart: [rows n (heads d)] -> [rows heads n d]."""
    return rearrange(x, "rows n (heads d) -> rows heads n d", heads=heads)


class BlockAttention(Protocol):
    """What every method asks of a block's attention, cross or joint: where the image looks in the text."""

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the image tokens, row by row."""

    @property
    def image_queries(self) -> Tensor:
        """[rows heads n d], queries of the image tokens."""

    @property
    def text_keys(self) -> Tensor | None:
        """[rows heads t d], keys of the text tokens; None where the block was not asked to show them."""


@dataclass(frozen=True)
class AttentionCall:
    """One block's attention that a rule may compute anew.

    q        [rows n (heads d)], queries: the image's, or a joint sequence's of text and image
    k, v     [rows m (heads d)], already projected by the model's own weights: the text's, or the joint sequence's
    context  [rows t c], the text that k and v were projected from: of a joint sequence, its text rows
    grid     (height, width) of the image tokens
    attend   ordinary attention, supplied by whoever owns the model
    rows     where text and image lie in a joint sequence; None: cross-attention
    project  the joint sequence's (k, v) when the text's own are changed by so much before norms and rotary, each
             [rows t (heads d)]; None: keys and values are as they were projected
    bias     [rows n t], added to the logits of image queries on text keys, where some words are for some places only;
             None: every place hears every word
    """

    q: Tensor
    k: Tensor
    v: Tensor
    context: Tensor
    heads: int
    grid: tuple[int, int]
    layer: LayerId
    attend: Attend = plain_attend
    rows: TokenRows | None = None
    project: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    bias: Tensor | None = None

    @property
    def image(self) -> slice:
        """The image tokens among the queries and in the result."""
        return slice(None) if self.rows is None else self.rows.image

    @property
    def text(self) -> slice:
        """The text tokens among the keys and values."""
        return slice(None) if self.rows is None else self.rows.text

    @property
    def image_queries(self) -> Tensor:
        """[rows heads n d], queries of the image tokens."""
        return split_heads(self.q[:, self.image], self.heads)

    @property
    def text_keys(self) -> Tensor:
        """[rows heads t d], keys of the text tokens."""
        return split_heads(self.k[:, self.text], self.heads)

    def plain(self) -> Tensor:
        """The block's ordinary result before its output projection, [rows n (heads d)].

        With a bias, what it changes is added to what `attend` gives: rows without one keep their bits, and so does what
        another pack adds there.
        """
        out = self.attend(self.q, self.k, self.v, self.heads)
        bias = self.bias_on_keys()
        if bias is None:
            return out
        asks = self.q[:, self.image], self.k, self.v, self.heads
        changed = plain_attend(*asks, bias) - plain_attend(*asks, torch.zeros_like(bias))
        whole = out.clone()
        whole[:, self.image] += changed.to(out.dtype)
        return whole

    def bias_on_keys(self) -> Tensor | None:
        """The bias over all keys, [rows n m]; None where there is none."""
        if self.bias is None or self.rows is None:
            return self.bias
        whole = self.bias.new_zeros(*self.bias.shape[:2], self.k.shape[1])
        whole[:, :, self.text] = self.bias
        return whole

    def text_part(self, out: Tensor) -> Tensor:
        """What the image tokens read of the text, as a mean over the text alone, [rows n (heads d)].

        out  the call's plain result, which it is in cross-attention
        """
        if self.rows is None:
            return out
        return plain_attend(self.q[:, self.image], self.k[:, self.text], self.v[:, self.text], self.heads, self.bias)

    def text_share(self) -> Tensor | None:
        """Share of each image token's attention that falls on the text, [rows heads n]; None: all of it."""
        if self.rows is None:
            return None
        return share_of_keys(self.image_queries, split_heads(self.k, self.heads), self.text, self.bias_on_keys())

    def moved(self, k: Tensor, v: Tensor) -> AttentionCall:
        """The same call with the text's keys and values changed by so much where they are projected, in fp32."""
        if self.project is not None:
            return self.with_text(*self.project(k, v))
        return self.with_text((self.k.float() + k).to(self.k.dtype), (self.v.float() + v).to(self.v.dtype))

    def with_text(self, k: Tensor, v: Tensor) -> AttentionCall:
        """The same call reading other keys and values."""
        return replace(self, k=k, v=v)

    def of_rows(self, choose: Callable[[Tensor], Tensor]) -> AttentionCall:
        """The same call for some rows of its batch; `choose` takes them."""
        bias = None if self.bias is None else choose(self.bias)
        return replace(self, q=choose(self.q), k=choose(self.k), v=choose(self.v), bias=bias)


AttentionRule = Callable[[AttentionCall], Tensor]
"""AttentionCall -> hidden before the output projection, [rows n (heads d)]."""
