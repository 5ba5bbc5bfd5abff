"""A small CLIP text encoder; parameter names as in the public CLIP checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class TextParams:
    """Sizes of the text encoder; defaults are the tiny world's."""

    entries: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    length: int = 77
    is_causal: bool = True


class LayerParams(Protocol):
    """What a CLIP transformer's layers ask of the sizes, in text and in vision."""

    @property
    def width(self) -> int:
        """Channels of a token row."""

    @property
    def layers(self) -> int:
        """How many of them."""

    @property
    def heads(self) -> int:
        """Heads of each attention."""

    @property
    def is_causal(self) -> bool:
        """Whether a row reads only those before it."""


class SelfAttention(nn.Module):
    """Multi-head attention of a row to itself and, where causal, to those before it alone."""

    def __init__(self, params: LayerParams) -> None:
        super().__init__()
        self.heads, self.is_causal = params.heads, params.is_causal
        self.q_proj, self.k_proj = nn.Linear(params.width, params.width), nn.Linear(params.width, params.width)
        self.v_proj, self.out_proj = nn.Linear(params.width, params.width), nn.Linear(params.width, params.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(proj(x), "b t (heads d) -> b heads t d", heads=self.heads)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = scaled_dot_product_attention(q, k, v, is_causal=self.is_causal)
        return self.out_proj(rearrange(out, "b heads t d -> b t (heads d)"))


class Mlp(nn.Module):
    """Two linear maps around CLIP's quick GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class Layer(nn.Module):
    """Attention and MLP, each after a norm."""

    def __init__(self, params: LayerParams) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(params.width), nn.LayerNorm(params.width)
        self.self_attn, self.mlp = SelfAttention(params), Mlp(params.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """The token table and the position table."""

    def __init__(self, params: TextParams) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(params.entries, params.width)
        self.position_embedding = nn.Embedding(params.length, params.width)
        nn.init.normal_(self.token_embedding.weight, std=0.02 * 4)
        nn.init.normal_(self.position_embedding.weight, std=0.02)


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self, params: LayerParams) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(params) for _ in range(params.layers)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class TextEncoder(nn.Module):
    """Causal transformer over framed token rows."""

    def __init__(self, params: TextParams) -> None:
        super().__init__()
        self.params = params
        self.embeddings, self.encoder = Embeddings(params), Encoder(params)
        self.final_layer_norm = nn.LayerNorm(params.width)

    def forward(self, embeds: Tensor) -> Tensor:
        """Hidden states [rows t c] of token rows [rows t c] without positions."""
        positions = self.embeddings.position_embedding.weight[: embeds.shape[1]]
        return self.final_layer_norm(self.encoder(embeds + positions))
