"""Runs an `AttentionRule` in the cross-attentions of a transformer whose blocks have one beside their self-attention.

The host calls its attention twice in a block, with nothing that tells one from the other. Its `attn2` patch comes by
just before the second, with the text in its hands: that call is the rule's, and every other one is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....dci_core.attention.call import AttentionCall, AttentionRule, split_heads
from ....dci_core.attention.layers import LayerId
from ....dci_core.families.weight_names import BLOCK
from .joint import OVERRIDE
from .projections import Projected

INDEX = "block_index"  # of the block that runs, in the host's options


@dataclass(eq=False)
class CrossFrame:
    """What one model call tells all its blocks.

    grid       (h, w) of the image tokens
    layers     blocks in which the rule acts, and where the text's keys and values are watched, what shows them
    announced  (block, text [rows t c]) of the cross-attention that comes next
    """

    rule: AttentionRule
    grid: tuple[int, int]
    layers: Mapping[int, Projected | None]
    announced: tuple[int, Tensor] | None = None

    def announce(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The host's `attn2` patch; changes nothing."""
        self.announced = int(extra_options[INDEX]), k
        return {}

    def attend(self, plain: Callable[[Tensor, Tensor, Tensor], Tensor], qkv: tuple[Tensor, ...], heads: int) -> Tensor:
        """The attention's result [rows n (heads d)]; qkv [rows heads n d] each."""
        announced, self.announced = self.announced, None
        if announced is None or announced[0] not in self.layers:
            return plain(*qkv)
        index, context = announced
        q, k, v = (x.transpose(1, 2).flatten(2) for x in qkv)  # rows n (heads d)
        projected, project = self.layers[index], None
        if projected is not None and projected.seen is not None:
            project = projected.changing(k, v, slice(0, k.shape[1]), None)

        def run(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
            return plain(*(split_heads(x, heads) for x in (q, k, v)))

        layer = LayerId(BLOCK, index)
        return self.rule(AttentionCall(q, k, v, context, heads, self.grid, layer, run, project=project))


def with_frame(options: dict[str, Any], frame: CrossFrame) -> dict[str, Any]:
    """A copy of the transformer options in which the frame's rule acts, around whatever attention is there already."""
    patches = dict(options.get("patches", {}))
    patches["attn2_patch"] = [*patches.get("attn2_patch", []), frame.announce]
    previous = options.get(OVERRIDE)

    def override(attend: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rest = (q, k, v, *args[3:])
            return attend(*rest, **kwargs) if previous is None else previous(attend, *rest, **kwargs)

        return frame.attend(plain, args[:3], args[3] if len(args) > 3 else kwargs["heads"])

    return {**options, "patches": patches, OVERRIDE: override}
