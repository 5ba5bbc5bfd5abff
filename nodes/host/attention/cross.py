"""Turns the host's cross-attention hook into an `AttentionCall` and runs a rule in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from ....dci_core.attention.call import AttentionCall, AttentionRule
from ....dci_core.attention.layers import LayerId

Replacement = Callable[..., Tensor]
CONTEXT = "ico_dci_context"  # private key: the text of this block call, put there by the patch, read by the replacement


def with_rule(options: dict[str, Any], layers: Iterable[LayerId], rule: AttentionRule) -> dict[str, Any]:
    """A copy of the transformer options in which the rule acts around whatever already holds each layer's slot."""
    replaced = dict(options.get("patches_replace", {}))
    slots = dict(replaced.get("attn2", {}))
    for layer in layers:
        slots[tuple(layer)] = replacement(rule, layer, slots.get(tuple(layer), slots.get(tuple(layer)[:2])))
    patches = dict(options.get("patches", {}))
    patches["attn2_patch"] = [*patches.get("attn2_patch", []), remember_context]
    return {**options, "patches": patches, "patches_replace": {**replaced, "attn2": slots}}


def remember_context(n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Changes nothing; leaves the text where this block's replacement finds it."""
    extra[CONTEXT] = context
    return n, context, value


def replacement(rule: AttentionRule, layer: LayerId, previous: Replacement | None) -> Replacement:
    """The host's attn2 replacement for one layer; `previous` held the slot and still computes the plain result."""

    def replace(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any], **kwargs: Any) -> Tensor:
        def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
            if previous is not None:
                return previous(q, k, v, extra_options, **kwargs)
            return host_attention(q, k, v, heads, extra_options)

        height, width = extra_options["activations_shape"][-2:]
        context, heads = extra_options.get(CONTEXT, k), extra_options["n_heads"]
        return rule(AttentionCall(q, k, v, context, heads, (height, width), layer, attend))

    return replace


def host_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, extra: dict[str, Any]) -> Tensor:
    """The host's fastest attention, with the user's overrides."""
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, heads, attn_precision=extra.get("attn_precision"), transformer_options=extra)
