"""A toy model with the tiny family's ten cross-attentions and random weights; counts its rows; milliseconds a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from dci_core.attention.call import AttentionCall, AttentionRule
from dci_core.attention.layers import LayerId
from dci_core.families.table import FAMILIES
from dci_core.model import Text

WIDTH, LENGTH, CHANNELS, HEADS = 12, 77, 8, 2
TRIGGER = "mydog"  # two modifier tokens


@dataclass(frozen=True)
class CrossTokens:
    """A word's id is a hash of it; the trigger has two; a word with a hyphen has a token for each part."""

    table: Tensor
    width: int = WIDTH
    length: int = LENGTH
    begin: int = 1

    def tokenize(self, text: str) -> list[int]:
        words = text.lower().replace(".", " . ").replace("-", " ").split()
        return [token for word in words for token in ([300, 301] if word == TRIGGER else [crc32(word.encode()) % 299])]

    def embed(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def frame(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([302, *ids, 303] + [303] * (self.length - 2 - len(ids)))

    def positions(self) -> Tensor:
        return self.table[: self.length]


@dataclass
class CrossModel:
    """x0 from a stack of cross-attentions at the tiny family's places; `rows` lists the batch of every call."""

    weights: Mapping[str, Tensor]
    encoders: Mapping[str, CrossTokens]
    family: str = "tiny"
    layers: Sequence[LayerId] = FAMILIES["tiny"].layers
    rows: list[int] = field(default_factory=list)

    @classmethod
    def random(cls, dtype: torch.dtype = torch.float32) -> CrossModel:
        g = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype) * shape[-1] ** -0.5

        weights = {f"{part}{i}": draw(CHANNELS, CHANNELS) * 2 for i in range(10) for part in "qo"}
        weights |= {f"{part}{i}": draw(CHANNELS, WIDTH) for i in range(10) for part in "kv"}
        return cls(weights, {"clip_l": CrossTokens(draw(304, WIDTH) * 3)})

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        rows = embeds["clip_l"]
        seen = rows.cumsum(dim=1) / torch.arange(1, LENGTH + 1).to(rows)[:, None]  # every slot has read those before it
        return Text(rows + seen, seen[:, -1])

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        assert len(x) == len(sigma) == len(text.hidden)
        self.rows.append(len(x))
        level = sigma[:, None, None, None]
        hidden = x / (1 + level**2).sqrt()
        for i, (layer, depth) in enumerate(FAMILIES["tiny"].depths.items()):
            grid = (x.shape[-2] // 2**depth, x.shape[-1] // 2**depth)
            image = rearrange(adaptive_avg_pool2d(hidden, grid), "b c h w -> b (h w) c")
            q = image @ self.weights[f"q{i}"].T
            k, v = (text.hidden @ self.weights[f"{part}{i}"].T for part in "kv")
            call = AttentionCall(q, k, v, text.hidden, HEADS, grid, layer)
            out = (AttentionCall.plain if rule is None else rule)(call) @ self.weights[f"o{i}"].T
            planes = rearrange(out, "b (h w) c -> b c h w", h=grid[0])
            hidden = hidden + interpolate(planes, size=x.shape[-2:], mode="nearest") / 2
        return x - level * hidden / hidden.std(dim=(1, 2, 3), keepdim=True)
