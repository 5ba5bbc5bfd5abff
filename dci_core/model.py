"""What a model must offer: two small protocols that the tiny world and the host both fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .attention.call import AttentionRule
from .attention.layers import LayerId


@dataclass(frozen=True)
class Text:
    """Encoded prompts, one row each.

    hidden   [rows t c], what cross-attention reads
    pooled   [rows p] or None, for families that have a pooled vector
    lengths  of each text, for families that read no padding behind it; None: all of `hidden` is read
    """

    hidden: Tensor
    pooled: Tensor | None = None
    lengths: tuple[int, ...] | None = None

    def chosen(self, rows: Sequence[int], take: Callable[[Tensor], Tensor]) -> Text:
        """The chosen rows; `take` takes them of a tensor."""
        lengths = None if self.lengths is None else tuple(self.lengths[row] for row in rows)
        return Text(take(self.hidden), None if self.pooled is None else take(self.pooled), lengths)


class TokenEncoder(Protocol):
    """One text encoder's vocabulary and tables. Token ids are without begin and end marks."""

    @property
    def width(self) -> int:
        """Channels of a token vector."""

    @property
    def length(self) -> int:
        """Slots in all, begin and end marks included (77)."""

    @property
    def begin(self) -> int:
        """Number of marks before the first word."""

    @property
    def reserved(self) -> Sequence[int]:
        """Ids that stand for modifier tokens where none can be learned; empty: vectors of any kind can stand there."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of the words, no begin or end mark, no padding."""

    def embed(self, ids: Tensor) -> Tensor:
        """Rows of the token table, without positions: [...] -> [... c]."""

    def frame(self, ids: Sequence[int]) -> Tensor:
        """[length] ids with begin mark, end mark and padding; raises PromptTooLong."""

    def positions(self) -> Tensor:
        """The position table, [length c]."""


class Model(Protocol):
    """A text-to-image model: encodes text, removes noise.

    Noise is in the family's own scale: x = x0 + sigma * noise (eps, v) or (1 - sigma) * x0 + sigma * noise (flow).
    """

    @property
    def family(self) -> str:
        """Name of the model's row in the family table."""

    @property
    def layers(self) -> Sequence[LayerId]:
        """Every layer that reads text, in the order of the forward pass."""

    @property
    def encoders(self) -> Mapping[str, TokenEncoder]:
        """The text encoders: "clip_l", and "clip_g" where there are two."""

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        """Text from framed token rows, positions not yet added.

        embeds  per encoder [rows length c]
        ends    per encoder [rows], slot of the end mark, on the CPU
        """

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """The clean latent's estimate x0 [rows c h w] from x at sigma [rows]; rule acts in each of `layers`."""
