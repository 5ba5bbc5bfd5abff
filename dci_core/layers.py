"""Names of cross-attention layers and the share with which each integrates."""

from __future__ import annotations

from typing import NamedTuple


class LayerId(NamedTuple):
    """One cross-attention layer, numbered as the host numbers its blocks.

    stage  "input", "middle" or "output"
    block  index in input_blocks or output_blocks; 0 in the middle
    index  position among the block's transformer blocks
    """

    stage: str
    block: int
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a layer
