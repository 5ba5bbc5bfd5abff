"""One subject's reference pictures as keys and values of every block: computed once, kept for a run.

Shapes: m reference tokens of one picture, c their width, d head width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from ..attention.joint import BlockId
from .adapter import ImagePromptAdapter
from .decoupled import BlockKV
from .fusion import States


@dataclass(frozen=True)
class Reference:
    """One subject's pictures, ready: what a run keeps.

    tokens   [1 (pictures m) c]
    weights  [pictures levels], share of each level
    kvs      keys and values of every block, each [1 heads (pictures m) d]
    place    where they are added, as `AdapterParams.place`
    """

    tokens: Tensor
    weights: Tensor
    kvs: Mapping[BlockId, BlockKV]
    place: str = "attention"

    def to(self, device: torch.device, dtype: torch.dtype) -> Reference:
        """The same reference where, and in the precision in which, the model runs."""
        kvs = {block: kv.to(device, dtype) for block, kv in self.kvs.items()}
        return replace(self, tokens=self.tokens.to(device, dtype), kvs=kvs)


@torch.no_grad()
def prepare_reference(
    adapter: ImagePromptAdapter,
    states: States,
    weights: Sequence[float] | None = None,
    bias: Sequence[float] | None = None,
) -> Reference:
    """The pictures of one subject as keys and values of every block, computed once for a run.

    states  hidden states of one or several pictures of the same subject

    Tokens of several pictures stand side by side, and each row's softmax chooses among the views; their mean would be
    a view that none of them shows. The cost of reading grows with the number of pictures.
    """
    fused = adapter.fuse(states, weights, bias)
    tokens = rearrange(fused.tokens, "pictures m c -> 1 (pictures m) c")
    kvs = {block: adapter.kv(block, tokens) for block in adapter.params.block_ids}
    return Reference(tokens, fused.weights, kvs, adapter.params.place)
