"""One cross-attention call as the methods see it: the seam between a model family and a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .layers import LayerId

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(q, k, v, heads) -> hidden, all [rows tokens (heads d)]; the host may supply its fastest kernel."""


def plain_attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Ordinary attention without a mask; [rows n (heads d)] in and out."""
    q, k, v = (rearrange(x, "rows n (heads d) -> rows heads n d", heads=heads) for x in (q, k, v))
    return rearrange(scaled_dot_product_attention(q, k, v), "rows heads n d -> rows n (heads d)")


@dataclass(frozen=True)
class AttentionCall:
    """What a rule may read and change of one cross-attention layer.

    q        [rows n (heads d)], image queries
    k, v     [rows t (heads d)], already projected by the model's own weights
    context  [rows t c], the text that k and v were projected from
    grid     (height, width) of the image tokens, height * width = n
    attend   ordinary attention, supplied by whoever owns the model
    """

    q: Tensor
    k: Tensor
    v: Tensor
    context: Tensor
    heads: int
    grid: tuple[int, int]
    layer: LayerId
    attend: Attend = plain_attend

    def plain(self) -> Tensor:
        """The layer's ordinary result before its output projection, [rows n (heads d)]."""
        return self.attend(self.q, self.k, self.v, self.heads)

    def with_text(self, k: Tensor, v: Tensor) -> AttentionCall:
        """The same call reading other keys and values."""
        return replace(self, k=k, v=v)


AttentionRule = Callable[[AttentionCall], Tensor]
"""AttentionCall -> hidden before the output projection, [rows n (heads d)]."""
