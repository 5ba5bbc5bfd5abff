"""One joint attention as an image prompt sees it, beside which it reads keys and values of its own.

It is a `BlockAttention`, as `AttentionCall` is; it shows queries before their rotary embedding, since references have
no places in the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .rows import TokenRows

PLACES = ("attention", "stream")  # where a rule may add: before the block's projection, or behind the block


@dataclass(frozen=True, order=True)
class BlockId:
    """One transformer block; as text "double.3".

    stream  "double" (own weights for text and image) or "single" (one set of weights for both)
    index   from 0, as the model numbers the blocks of that kind
    """

    stream: str
    index: int

    def __str__(self) -> str:
        return f"{self.stream}.{self.index}"


@dataclass(frozen=True)
class JointCall:
    """What a rule may read of one block's attention.

    q          [b heads n d], the block's own normed queries of every row of the joint sequence, before rotary;
               of the image rows alone where rows.text is empty
    rows       which of the n rows are text and which are image
    grid       (height, width) of the image rows, height * width of them, row by row
    reads      [b], 1 where a batch row may read the reference, 0 where it stays the base model (negative prompts).
               Best kept on the CPU: it is looked at in every block, and elsewhere that look makes the device wait
    text_keys  [b heads text d], the block's own normed keys of the text rows before rotary, where somebody asked for
               automatic regions (`auto_regions`); else None
    """

    q: Tensor
    rows: TokenRows
    block: BlockId
    grid: tuple[int, int]
    reads: Tensor
    text_keys: Tensor | None = None

    @property
    def image_queries(self) -> Tensor:
        """[b heads n d], queries of the image rows."""
        return self.q[:, :, self.rows.image]


JointRule = Callable[[JointCall], Tensor | None]
"""JointCall -> what to add to the block's attention output before its projection, [b n (heads d)]; None for nothing."""
