"""Dual-branch integration (DBIM): attention maps -> branch weights -> integrated output.

Shapes: b pictures, heads, n image tokens, t text tokens, d head width.
Source: Jin et al., ECCV 2024 (arXiv 2412.04831); constants and order of normalisation from the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import interpolate

from .attention import AttentionCall, AttentionRule
from .errors import BadModel
from .indices import indices_on
from .layers import LayerId
from .tokens import PairTokens, TokenSet

TOKEN_SHARPNESS = 10.0  # released code: softmax over the words of 10 * attention
SPATIAL_SHARPNESS = 10.0  # released code: softmax over the image tokens of 10 * map
GAIN = 500.0  # released code: each map sums to 500 over the image tokens

ObserveWeights = Callable[[LayerId, Tensor, tuple[int, int]], None]
"""Receives (layer, weights [b heads n], grid) of each integrated layer."""


@dataclass(frozen=True)
class BranchRows:
    """Rows of an attention batch, paired in order: auxiliary[i] stands in for concept[i]."""

    concept: tuple[int, ...]
    auxiliary: tuple[int, ...]


@dataclass(frozen=True)
class DbimSettings:
    """How the branches are weighed, layer by layer.

    strength          the paper's lambda: 1 balanced, 0 a neutral blend (not off), larger gives the context more room
    shares            per layer in 0..1, how far it goes from plain to integrated; a layer not named is plain
    reference_tokens  per layer, image tokens at which the gain is GAIN (mode `scaled`); None: GAIN everywhere
    region            [h w] or [b h w] in 0..1, multiplies the share where it lies; None: everywhere
    fixed_weight      a control: this share for the concept everywhere instead of the maps
    inverts_noun      a control: weigh by the auxiliary noun itself, as the newest released state does by mistake
    """

    shares: Mapping[LayerId, float]
    strength: float = 1.0
    reference_tokens: Mapping[LayerId, int] | None = None
    region: Tensor | None = field(default=None, compare=False)
    fixed_weight: float | None = None
    inverts_noun: bool = False
    token_sharpness: float = TOKEN_SHARPNESS
    spatial_sharpness: float = SPATIAL_SHARPNESS
    gain: float = GAIN

    def gain_at(self, layer: LayerId, num_tokens: int) -> float:
        """What a map of this layer sums to, at this number of image tokens."""
        if self.reference_tokens is None:
            return self.gain
        if layer not in self.reference_tokens:
            raise BadModel(
                f"the model has a cross-attention layer {tuple(layer)}",
                f"the family's {len(self.reference_tokens)} layers are known by name",
                "use gain `reference` or add the layer to its family",
            )
        return self.gain * num_tokens / self.reference_tokens[layer]


def attention_probabilities(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """Ordinary attention's probabilities, [rows heads n t], at least in float32.

    q  [rows n (heads d)]
    k  [rows t (heads d)]
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k = (rearrange(x.to(wide), "rows n (heads d) -> rows heads n d", heads=heads) for x in (q, k))
    with torch.autocast(q.device.type, enabled=False):  # autocast would narrow the product again
        return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(dim=-1)


def token_mass(probabilities: Tensor, real: Tensor, span: Tensor, sharpness: float = TOKEN_SHARPNESS) -> Tensor:
    """Share of attention that falls on the span, [b heads n], in 0..1.

    probabilities  [b heads n t]; their softmax over the real words is taken once more (of probabilities, not logits)
    real           [words] slots of the prompt's words among t
    span           [..] which of those words are looked for
    """
    return (sharpness * probabilities.index_select(-1, real)).softmax(dim=-1).index_select(-1, span).sum(dim=-1)


def branch_weights(
    concept_map: Tensor,
    auxiliary_map: Tensor,
    strength: float,
    *,
    gain: float = GAIN,
    sharpness: float = SPATIAL_SHARPNESS,
) -> Tensor:
    """Share of the concept branch in each image token's output.

    concept_map    [b heads n], attention on the concept's span
    auxiliary_map  [b heads n], attention on everything except the auxiliary noun
    strength       scale on the auxiliary side; larger gives the context more room
    gain           what each map sums to over n after its spatial softmax
    returns        [b heads n], in 0..1; the auxiliary share is one minus it
    """
    concept = (sharpness * concept_map).softmax(dim=-1)
    auxiliary = (sharpness * auxiliary_map).softmax(dim=-1)
    return (gain * (concept - strength * auxiliary)).sigmoid()


def integrate(concept: Tensor, auxiliary: Tensor, weights: Tensor, share: float | Tensor = 1.0) -> Tensor:
    """The concept's attention output with the auxiliary's blended in, [b n (heads d)], in the input's dtype.

    concept, auxiliary  [b n (heads d)], attention outputs before the output projection
    weights             [b heads n], share of the concept branch
    share               0 leaves the concept's output as it is bit for bit; a number or [b-or-1 1 n]
    """
    wide = torch.promote_types(concept.dtype, torch.float32)
    split = partial(rearrange, pattern="b n (heads d) -> b n heads d", heads=weights.shape[1])
    moved = rearrange((share * (1 - weights)).to(wide), "b heads n -> b n heads 1")
    mixed = torch.lerp(split(concept.to(wide)), split(auxiliary.to(wide)), moved)
    return rearrange(mixed, "b n heads d -> b n (heads d)").to(concept.dtype)


def region_on(region: Tensor, grid: tuple[int, int]) -> Tensor:
    """A region resized to a layer's grid by area, [b-or-1 1 n]."""
    planes = rearrange(region.float(), "... h w -> (...) 1 h w")
    return rearrange(interpolate(planes, size=grid, mode="area"), "b 1 h w -> b 1 (h w)")


def dbim_rule(
    settings: DbimSettings,
    rows: BranchRows,
    tokens: PairTokens,
    device: torch.device,
    observe: ObserveWeights | None = None,
) -> AttentionRule:
    """A rule that integrates the auxiliary rows into the concept rows; every other row stays bit for bit.

    device   where the calls will be; all indices are put there now, so that the rule itself can be compiled
    observe  sees the weights of each integrated layer; nothing is spent when it is None
    """
    concept, auxiliary = indices_on(rows.concept, device), indices_on(rows.auxiliary, device)
    concept_map = span_map(tokens.concept, settings.token_sharpness, device)
    noun_map = span_map(tokens.auxiliary, settings.token_sharpness, device)

    def weigh(call: AttentionCall) -> Tensor:
        if settings.fixed_weight is not None:
            wide = torch.promote_types(call.q.dtype, torch.float32)
            shape = (len(rows.concept), call.heads, call.q.shape[1])
            return torch.full(shape, settings.fixed_weight, dtype=wide, device=device)
        noun = noun_map(call, auxiliary)
        return branch_weights(
            concept_map(call, concept),
            noun if settings.inverts_noun else 1 - noun,
            settings.strength,
            gain=settings.gain_at(call.layer, call.q.shape[1]),
            sharpness=settings.spatial_sharpness,
        )

    def rule(call: AttentionCall) -> Tensor:
        out = call.plain()
        share = settings.shares.get(call.layer, 0.0)
        if share == 0 or not rows.concept:
            return out
        weights = weigh(call)
        if observe is not None:
            observe(call.layer, weights, call.grid)
        where = share if settings.region is None else share * region_on(settings.region.to(weights), call.grid)
        mixed = integrate(out.index_select(0, concept), out.index_select(0, auxiliary), weights, where)
        return out.index_copy(0, concept, mixed)

    return rule


def span_map(tokens: TokenSet, sharpness: float, device: torch.device) -> Callable[[AttentionCall, Tensor], Tensor]:
    """A function (call, rows) -> share of attention that falls on the span in those rows, [b heads n]."""
    real, span = indices_on(tokens.real, device), indices_on(tokens.span_in_real, device)

    def measure(call: AttentionCall, rows: Tensor) -> Tensor:
        q, k = call.q.index_select(0, rows), call.k.index_select(0, rows)
        return token_mass(attention_probabilities(q, k[:, : tokens.length], call.heads), real, span, sharpness)

    return measure
