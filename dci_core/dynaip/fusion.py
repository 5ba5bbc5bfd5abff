"""Hierarchical mixture of experts (HMoE-FFM): hidden states of several depths become one set of reference tokens.

Shapes: b pictures, t tokens of the vision model, m reference tokens, c their width; levels from shallow to deep.
Source: facts 7, 8, 10 and 11 (levels, one expert each, weights that routing gives and a user can set); the form of
experts and router is dynaip.md section 4, reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import BadSettings
from .resampler import ExpertParams, Resampler

DIAL_RANGE = 4.0  # ours: at either end of the dial the outermost level outweighs the next of three by e^4

States = Sequence[Tensor] | Mapping[int, Tensor]
"""Hidden states [b t c] by number, 0 the patch embedding: all of them, or those that are asked for."""


@dataclass(frozen=True)
class Fused:
    """What a reference becomes.

    tokens   [b m c], reference tokens
    weights  [b levels], share of each level, summing to 1
    """

    tokens: Tensor
    weights: Tensor


class Fusion(nn.Module):
    """An expert per level, a router over them, and the weighted sum of what the experts give."""

    def __init__(self, levels: Sequence[int], expert: ExpertParams, router_width: int) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.experts = nn.ModuleList(Resampler(expert) for _ in self.levels)
        pooled, last = len(self.levels) * expert.in_width, nn.Linear(router_width, len(self.levels))
        nn.init.zeros_(last.weight)  # all levels weigh the same at first
        nn.init.zeros_(last.bias)
        self.router = nn.Sequential(nn.LayerNorm(pooled), nn.Linear(pooled, router_width), nn.GELU(), last)

    def forward(
        self, states: States, weights: Sequence[float] | None = None, bias: Sequence[float] | None = None
    ) -> Fused:
        """Reference tokens, an expert of weight 0 not run; see `level_weights` for weights and bias."""
        seen = [states[level] for level in self.levels]
        logits = self.router(torch.cat([state.mean(dim=1) for state in seen], dim=-1))  # [b levels]
        shares = level_weights(logits, weights, bias)
        chosen = [i for i in range(len(seen)) if weights is None or weights[i]]
        parts = [shares[:, i, None, None].to(seen[i]) * self.experts[i](seen[i]) for i in chosen]
        return Fused(torch.stack(parts).sum(dim=0), shares)


def level_weights(
    logits: Tensor, weights: Sequence[float] | None = None, bias: Sequence[float] | None = None
) -> Tensor:
    """Share of each level, [b levels] in float32 at least, summing to 1.

    logits   [b levels], what the router says
    weights  a user's shares instead, brought to the sum 1: (1, 0, 0) is the shallowest expert alone
    bias     beta of softmax(log w + beta), applied to either

    Raises BadSettings for a wrong number of them, negative shares, or none above 0.
    Source: fact 10 (weights that a user can set); the bias form is dynaip.md section 4, reconstruction.
    """
    logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    if weights is not None:
        _check_count("weights", weights, logs.shape[-1])
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise BadSettings(
                f"the level weights are {tuple(weights)}",
                "shares of 0 or more, one of them above 0, were expected",
                "use (1, 0, 0) for the shallowest level alone",
            )
        logs = logs.new_tensor(list(weights)).log().expand_as(logs)
    if bias is not None:
        _check_count("biases", bias, logs.shape[-1])
        logs = logs + logs.new_tensor(list(bias))
    return logs.softmax(dim=-1)


def granularity_bias(granularity: float, num_levels: int) -> tuple[float, ...]:
    """The bias of a dial from texture (-1) over the router's own choice (0) to meaning (1), one number per level.

    Straight over the levels, from -4 * granularity at the shallowest to 4 * granularity at the deepest: at -1 the
    shallowest of three has 0.98 of the weight, at 1 the deepest. Texture keeps local detail and colour; meaning keeps
    what the thing is and leaves its look looser.

    Source: dynaip.md section 4 (more low and mid is texture, more high is semantic), reconstruction; the range is ours.
    """
    if not -1 <= granularity <= 1:
        raise BadSettings(
            f"the granularity is {granularity:g}", "a number in -1 (texture) .. 1 (meaning) was expected", "use 0"
        )
    if num_levels < 2:
        return (0.0,) * num_levels
    return tuple(DIAL_RANGE * granularity * (2 * i / (num_levels - 1) - 1) for i in range(num_levels))


def level_entropy(weights: Tensor) -> Tensor:
    """How evenly the levels are used, [b] in 0..1: 0 one level alone, 1 all the same. weights [b levels]."""
    if weights.shape[-1] < 2:
        return weights.new_zeros(weights.shape[:-1])
    return torch.special.entr(weights).sum(dim=-1) / torch.tensor(float(weights.shape[-1])).log().to(weights)


def _check_count(name: str, values: Sequence[float], expected: int) -> None:
    if len(values) != expected:
        raise BadSettings(
            f"{len(values)} level {name} came",
            f"{expected} were expected, from the shallowest level to the deepest",
            "give one for each level",
        )
