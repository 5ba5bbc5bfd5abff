"""One expert: a perceiver resampler that turns a picture's hidden states into a few reference tokens.

Shapes: b pictures, t tokens of the vision model, m reference tokens, w width inside, c width of a reference token.
Source: dynaip.md section 4, reconstruction (the resampler that IP-Adapter Plus made usual); fact 11: one per level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

FEED_FORWARD = 4  # width of the hidden layer of a feed-forward, in widths


@dataclass(frozen=True)
class ExpertParams:
    """Sizes of one expert; defaults for ViT-L/14 from dynaip.md section 4.

    width   inside; heads are width / heads wide
    tokens  reference tokens that come out
    """

    in_width: int = 1024
    out_width: int = 3072
    tokens: int = 16
    depth: int = 4
    width: int = 1280
    heads: int = 20


class Resampler(nn.Module):
    """Learned queries read the hidden states, layer by layer: [b t in_width] -> [b tokens out_width]."""

    def __init__(self, params: ExpertParams) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(params.tokens, params.width) * params.width**-0.5)
        self.project_in = nn.Linear(params.in_width, params.width)
        self.layers = nn.ModuleList(ResamplerLayer(params.width, params.heads) for _ in range(params.depth))
        self.project_out = nn.Linear(params.width, params.out_width)
        self.norm_out = nn.LayerNorm(params.out_width)

    def forward(self, states: Tensor) -> Tensor:
        seen = self.project_in(states)  # [b t w]
        tokens = self.queries.to(seen).expand(len(seen), -1, -1)  # [b m w]
        for layer in self.layers:
            tokens = layer(tokens, seen)
        return self.norm_out(self.project_out(tokens))  # [b m c]


class ResamplerLayer(nn.Module):
    """Reference tokens read the picture and themselves, then a feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_tokens, self.norm_seen = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, FEED_FORWARD * width, bias=False),
            nn.GELU(),
            nn.Linear(FEED_FORWARD * width, width, bias=False),
        )

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        own = self.norm_tokens(tokens)
        kv = self.to_kv(torch.cat((self.norm_seen(seen), own), dim=1))  # [b (t+m) 2w]
        k, v = rearrange(kv, "b t (two heads d) -> two b heads t d", two=2, heads=self.heads)
        q = rearrange(self.to_q(own), "b m (heads d) -> b heads m d", heads=self.heads)
        out = rearrange(scaled_dot_product_attention(q, k, v), "b heads m d -> b m (heads d)")
        tokens = tokens + self.to_out(out)
        return tokens + self.feed_forward(tokens)
