"""One run of one joint attention: computed anew by an `AttentionRule` in the host's attention override."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....dci_core.attention.call import AttentionCall, AttentionRule, split_heads
from ....dci_core.attention.layers import LayerId
from ....dci_core.attention.rows import TokenRows
from .joint import OVERRIDE
from .projections import Projected


@dataclass(frozen=True, eq=False)
class JointRun:
    """One run of one block.

    total      rows of the joint sequence; attentions over fewer rows are none of ours
    projected  the text's keys and values before the norms, where a training shows them
    pe         the rotary embedding of the joint sequence
    """

    layer: LayerId
    rule: AttentionRule
    rows: TokenRows
    total: int
    grid: tuple[int, int]
    projected: Projected | None
    pe: Tensor | None

    def call(self, q: Tensor, k: Tensor, v: Tensor, heads: int, attend: Callable[..., Tensor]) -> AttentionCall:
        """The attention as the rule sees it; q, k, v [b n (heads d)], attend over the same."""
        context, project = k[:, self.rows.text], None
        if self.projected is not None and self.projected.seen is not None:
            context, project = self.projected.rows, self.projected.changing(k, v, self.rows.text, self.pe)
        return AttentionCall(q, k, v, context, heads, self.grid, self.layer, attend, self.rows, project)


def with_override(options: dict[str, Any], find: Callable[[dict[str, Any]], JointRun | None]) -> dict[str, Any]:
    """Transformer options in which a rule computes joint attentions, around whatever attention is there already.

    find  the run that an attention belongs to, by what the host tells it; None: it is none of ours
    """
    previous = options.get(OVERRIDE)

    def override(attend: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            rest = (q, k, v, *args[3:])
            return attend(*rest, **kwargs) if previous is None else previous(attend, *rest, **kwargs)

        q, k, v = args[:3]
        run = find(kwargs)
        heads, is_split = args[3] if len(args) > 3 else kwargs["heads"], bool(kwargs.get("skip_reshape"))
        if run is None or q.shape[2 if is_split else 1] != run.total:
            return plain(q, k, v)
        if not is_split:
            v = v.flatten(2)  # SD 3 leaves the heads of the values apart
            return run.rule(run.call(q, k, v, heads, lambda q, k, v, _: plain(q, k, v)))
        flat = (x.transpose(1, 2).flatten(2) for x in (q, k, v))  # b n (heads d)
        return run.rule(run.call(*flat, heads, lambda *qkv: plain(*(split_heads(x, heads) for x in qkv[:3]))))

    return {**options, OVERRIDE: override}
