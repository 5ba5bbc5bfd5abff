"""Small adapters for the toy of joint_model, and hidden states for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dci_core.dynaip.adapter import Adapter, AdapterParams

VISION_WIDTH, VISION_LAYERS, LEVELS = 12, 6, (2, 4, 6)


def small_params(**changes: object) -> AdapterParams:
    """A tiny_flow adapter, all sizes small."""
    sizes = {
        "vision_width": VISION_WIDTH,
        "vision_layers": VISION_LAYERS,
        "levels": LEVELS,
        "tokens": 3,
        "token_width": 10,
        "expert_depth": 1,
        "expert_width": 8,
        "expert_heads": 2,
        "router_width": 6,
    }
    return AdapterParams(**{"family": "tiny_flow", **sizes, **changes})


def untrained(seed: int = 0, **changes: object) -> Adapter:
    """An adapter as training starts from it."""
    torch.manual_seed(seed)
    return Adapter(small_params(**changes))


def trained(seed: int = 0, **changes: object) -> Adapter:
    """An adapter with every parameter random, as after training."""
    adapter = untrained(seed, **changes)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.5)
    return adapter.eval().requires_grad_(False)


def draw_states(pictures: int = 1, tokens: int = 5, seed: int = 3) -> tuple[Tensor, ...]:
    """Hidden states of every layer, the patch embedding first."""
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(pictures, tokens, VISION_WIDTH, generator=g) for _ in range(VISION_LAYERS + 1))
