"""Dual-branch integration (DBIM): attention maps -> branch weights -> integrated output.

Shapes: b pictures, heads, n image tokens, t text tokens, d head width.
Source: Jin et al., ECCV 2024 (arXiv 2412.04831); constants and order of normalisation from the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor

from ..attention.call import AttentionCall, AttentionRule
from ..attention.layers import LayerId
from ..attention.regions import region_on
from ..errors import BadModel
from ..fingerprint import LATER
from ..indices import indices_on, picker
from ..text.tokens import PairTokens
from .maps import TOKEN_SHARPNESS, AuxiliaryView, BranchRows, kept_views, live_views

SPATIAL_SHARPNESS = 10.0  # released code: softmax over the image tokens of 10 * map
MOST_HALVINGS = 3  # of a latent on its way to any cross-attention, in every family
GAIN = 500.0  # released code: each map sums to 500 over the image tokens

Form = Literal["scale", "shift"]
FORMS: tuple[Form, ...] = ("scale", "shift")

ObserveWeights = Callable[[LayerId, Tensor, tuple[int, int]], None]
"""Receives (layer, weights [b heads n], grid) of each integrated layer."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How the two branches' maps are weighed against each other.

    strength      the paper's lambda. Higher: more room for the scene; lower: more of the concept; 1 is balanced, 0 a
                  neutral blend (not off), useful from about -2 to 2
    fixed_weight  a control: this share for the concept everywhere, in 0..1, instead of the maps
    inverts_noun  a control: weigh by the auxiliary noun itself, as the newest released state does by mistake
    blends_whole  a control in joint attention: blend the block's whole output, what image tokens read of each other
                  included, instead of the text's part
    form          how the strength acts: "scale" multiplies the auxiliary map by it, as published; "shift" leaves both
                  maps whole and moves their balance, to the same weights on flat maps
    """

    strength: float = 1.0
    fixed_weight: float | None = None
    inverts_noun: bool = False
    blends_whole: bool = False
    form: Form = field(default="scale", metadata=LATER)

    def balance(self) -> dict[str, Any]:
        """These alone, as keywords."""
        return {each.name: getattr(self, each.name) for each in fields(Balance)}


@dataclass(frozen=True, kw_only=True)
class DbimSettings(Balance):
    """How the branches are weighed, layer by layer.

    shares            per layer in 0..1, how far it goes from plain to integrated. Higher: DCI acts more in that layer;
                      a layer not named is plain
    reference_tokens  per layer, image tokens at which the gain is GAIN (mode `scaled`); None: GAIN everywhere
    region            [h w] or [b h w] in 0..1, multiplies the share. Higher: DCI acts more there; None: 1 everywhere
    """

    shares: Mapping[LayerId, float]
    reference_tokens: Mapping[LayerId, int] | None = None
    region: Tensor | None = field(default=None, compare=False)
    token_sharpness: float = TOKEN_SHARPNESS
    spatial_sharpness: float = SPATIAL_SHARPNESS
    gain: float = GAIN

    def faded(self, share: float) -> DbimSettings:
        """The same with every layer's share multiplied by this one, in 0..1."""
        if share == 1:
            return self
        return replace(self, shares={layer: share * own for layer, own in self.shares.items()})

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


def branch_weights(
    concept_map: Tensor,
    auxiliary_map: Tensor,
    strength: float,
    *,
    gain: float = GAIN,
    sharpness: float = SPATIAL_SHARPNESS,
    form: Form = "scale",
) -> Tensor:
    """Share of the concept branch in each image token's output.

    concept_map    [b heads n], attention on the concept's span
    auxiliary_map  [b heads n], attention on everything except the auxiliary noun
    strength       scale on the auxiliary side; larger gives the context more room
    gain           what each map sums to over n after its spatial softmax
    returns        [b heads n], in 0..1; the auxiliary share is one minus it

    Of several concepts, maps [b heads n parts], each is weighed by itself against its own stand-in, and every place
    goes by the one that claims it most: one concept named twice changes nothing, each keeps its whole contrast, and
    flat maps give what they give for one. One span of all words would share one map's gain among them.

    form "scale": sigmoid(g_c - strength g_a), as published, under which a place is the concept's only where its map is
    `strength` times the other; "shift": sigmoid(g_c - g_a - (strength - 1) gain / n), which keeps the maps' contrast.
    """
    several = concept_map.ndim == 4
    concept = (sharpness * concept_map).softmax(dim=2)
    auxiliary = (sharpness * auxiliary_map).softmax(dim=2)
    if form == "shift":
        balance = gain * (concept - auxiliary - (strength - 1) / concept.shape[2])
    else:
        balance = gain * torch.sub(concept, auxiliary, alpha=strength)
    return (balance.amax(dim=-1) if several else balance).sigmoid()


def integrate(
    concept: Tensor,
    auxiliary: Tensor,
    weights: Tensor,
    share: float | Tensor = 1.0,
    own: Tensor | None = None,
    mass: Tensor | None = None,
) -> Tensor:
    """The concept's attention output with the auxiliary's text blended in, [b n (heads d)], in the input's dtype.

    concept    [b n (heads d)], attention output of the image tokens before the output projection
    auxiliary  [b n (heads d)], what the auxiliary branch reads of its text: its output in cross-attention
    weights    [b heads n], share w of the concept branch
    share      0 leaves the concept's output as it is bit for bit; a number or [b-or-1 1 n]
    own, mass  joint attention: what the concept branch reads of its text, and the share m of its attention that it
               reads it with, [b heads n]; None: cross-attention, where m is 1

    O + share (1 - w) m (t_aux - t_own): the published blend in cross-attention, and its form in joint attention, where
    attention between image tokens and how much each reads the text stay untouched (methods, transformers, 9).
    """
    wide = torch.promote_types(concept.dtype, torch.float32)
    split = partial(rearrange, pattern="b n (heads d) -> b n heads d", heads=weights.shape[1])
    moved = rearrange((share * (1 - weights)).to(wide), "b heads n -> b n heads 1")
    here, there = split(concept.to(wide)), split(auxiliary.to(wide))
    if own is None or mass is None:
        mixed = torch.lerp(here, there, moved)
    else:
        mixed = here + moved * rearrange(mass.to(wide), "b heads n -> b n heads 1") * (there - split(own.to(wide)))
    return rearrange(mixed, "b n heads d -> b n (heads d)").to(concept.dtype)


def grids_of(size: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Grids of a U-Net's layers over latents of that (height, width): halved, rounded up, each time."""
    return [] if size is None else [(-(-size[0] // 2**i), -(-size[1] // 2**i)) for i in range(MOST_HALVINGS + 1)]


def dbim_rule(
    settings: DbimSettings,
    rows: BranchRows,
    tokens: PairTokens,
    device: torch.device,
    observe: ObserveWeights | None = None,
    kept: Mapping[LayerId, AuxiliaryView] | None = None,
    size: tuple[int, int] | None = None,
) -> AttentionRule:
    """A rule that integrates the auxiliary rows into the concept rows; every other row stays bit for bit.

    device   where the calls will be; all indices are put there now, so that the rule itself can be compiled
    observe  sees the weights of each integrated layer; nothing is spent when it is None
    kept     the auxiliary branch as an earlier call left it, per layer; `rows.auxiliary` then counts its rows
    size     (height, width) of the latents: a region is resized for the layers now rather than in each of them
    """
    if not rows.concept:
        return AttentionCall.plain
    # Indices and masks, put on the device before the first call
    concept = picker(rows.concept, device)
    places = indices_on(rows.concept, device)
    sharpness = settings.token_sharpness
    views = (
        live_views(rows, tokens, sharpness, device, settings.blends_whole)
        if kept is None
        else kept_views(kept, rows, tokens, sharpness, device)
    )
    region = None if settings.region is None else settings.region.to(device)
    masks = {} if region is None else {grid: region_on(region, grid) for grid in grids_of(size)}

    def where(share: float, grid: tuple[int, int]) -> float | Tensor:
        if region is None:
            return share
        mask = masks[grid] if grid in masks else region_on(region, grid)
        return share * rearrange(mask, "b n -> b 1 n")

    # What runs in each layer
    def rule(call: AttentionCall) -> Tensor:
        out = call.plain()
        share = settings.shares.get(call.layer, 0.0)
        if share == 0:
            return out
        mass, other = views(call, out)
        weights = weigh(settings, call, mass, other.noun)
        if observe is not None:
            observe(call.layer, weights, call.grid)
        moved = where(share, call.grid)
        mine = concept(out, 0)
        if call.rows is None:
            return out.index_copy(0, places, integrate(mine, other.out, weights, moved))
        asks, whole = call.of_rows(lambda x: concept(x, 0)), mine.clone()
        text = () if settings.blends_whole else (asks.text_part(mine), asks.text_share())
        whole[:, call.image] = integrate(mine[:, call.image], other.out, weights, moved, *text)
        return out.index_copy(0, places, whole)

    return rule


def weigh(settings: DbimSettings, call: AttentionCall, mass: Tensor, noun: Tensor) -> Tensor:
    """Share of the concept branch, [b heads n], from the attention on its span and on the auxiliary noun."""
    if settings.fixed_weight is not None:
        return torch.full_like(mass[..., 0] if mass.ndim == 4 else mass, settings.fixed_weight)
    return branch_weights(
        mass,
        noun if settings.inverts_noun else 1 - noun,
        settings.strength,
        gain=settings.gain_at(call.layer, mass.shape[2]),
        sharpness=settings.spatial_sharpness,
        form=settings.form,
    )
