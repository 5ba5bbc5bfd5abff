"""A toy text-to-image model: random weights, two cross-attentions, a causal text encoder; milliseconds a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import torch
from einops import rearrange
from torch import Tensor

from dci_core.attention.call import AttentionCall, AttentionRule
from dci_core.attention.layers import LayerId
from dci_core.errors import PromptTooLong
from dci_core.families.weight_names import weight_key
from dci_core.ico.data import TrainingData
from dci_core.model import Text

LAYERS = (LayerId("input", 1), LayerId("middle", 0))
WIDTH, LENGTH, VOCABULARY, CHANNELS, HEADS = 16, 24, 512, 4, 2
BEGIN, END = VOCABULARY - 2, VOCABULARY - 1
RARE = {"clip_l": (500, 501, 502)}
KV = 8


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5


@dataclass(frozen=True)
class ToyEncoder:
    """Words of letters and marks; a word's id is a hash of it, an added trigger's ids are beyond the vocabulary."""

    table: Tensor
    places: Tensor
    added: tuple[tuple[str, int], ...] = ()
    width: int = WIDTH
    length: int = LENGTH
    begin: int = 1
    reserved: tuple[int, ...] = ()

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = []
        first = VOCABULARY
        triggers = {}
        for word, count in self.added:
            triggers[word] = list(range(first, first + count))
            first += count
        for word in text.replace(".", " . ").split():
            ids += triggers.get(word, [crc32(word.lower().encode()) % 490])
        return ids

    def embed(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def frame(self, ids: Sequence[int]) -> Tensor:
        if len(ids) > self.length - 2:
            raise PromptTooLong(f"{len(ids)} tokens came", f"{self.length - 2} were expected", "shorten the prompt")
        return torch.tensor([BEGIN, *ids, END] + [END] * (self.length - 2 - len(ids)))

    def positions(self) -> Tensor:
        return self.places


@dataclass(frozen=True)
class ToyModel:
    encoders: Mapping[str, ToyEncoder]
    weights: Mapping[str, Tensor]
    family: str = "tiny"
    layers: Sequence[LayerId] = LAYERS

    @classmethod
    def random(cls, seed: int = 0) -> ToyModel:
        g = torch.Generator().manual_seed(seed)
        encoder = ToyEncoder(random(g, VOCABULARY, WIDTH) * 4, random(g, LENGTH, WIDTH))
        names = [weight_key(layer, part) for layer in LAYERS for part in "kv"]
        weights = {name: random(g, KV, WIDTH) for name in names}
        weights |= {"text": random(g, 3 * WIDTH, WIDTH), "in": random(g, KV, CHANNELS), "out": random(g, CHANNELS, KV)}
        weights |= {f"q{i}": random(g, KV, KV) * 2 for i in range(len(LAYERS))}
        return cls({"clip_l": encoder}, weights)

    def kv_shapes(self) -> dict[LayerId, tuple[int, int]]:
        return dict.fromkeys(self.layers, (KV, WIDTH))

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        x = embeds["clip_l"] + self.encoders["clip_l"].positions()
        q, k, v = (x @ self.weights["text"].T).chunk(3, dim=-1)
        bias = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)
        hidden = x + (q @ k.mT * WIDTH**-0.5 + bias).softmax(-1) @ v
        return Text(torch.nn.functional.layer_norm(hidden, (WIDTH,)))

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        level = sigma[:, None, None, None]
        h, w = x.shape[-2:]
        hidden = rearrange(x / (1 + level**2).sqrt(), "b c h w -> b (h w) c") @ self.weights["in"].T
        for i, layer in enumerate(self.layers):
            k, v = (text.hidden @ self.weights[weight_key(layer, part)].T for part in "kv")
            call = AttentionCall(hidden @ self.weights[f"q{i}"].T, k, v, text.hidden, HEADS, (h, w), layer)
            hidden = hidden + (AttentionCall.plain if rule is None else rule)(call)
        eps = rearrange(hidden @ self.weights["out"].T, "b (h w) c -> b c h w", h=h)
        return x - level * eps

    def with_deltas(self, weights: Mapping[str, Tensor]) -> ToyModel:
        return replace(self, weights={**self.weights, **{k: self.weights[k] + d for k, d in weights.items()}})

    def with_tokens(self, trigger: str, vectors: Mapping[str, Tensor]) -> ToyModel:
        old = self.encoders["clip_l"]
        rows = vectors["clip_l"]
        new = replace(old, table=torch.cat([old.table, rows]), added=(*old.added, (trigger, len(rows))))
        return replace(self, encoders={"clip_l": new})


def toy_data(num: int = 3, size: int = 4, seed: int = 7) -> TrainingData:
    return TrainingData(torch.randn(num, 2, CHANNELS, size, size, generator=torch.Generator().manual_seed(seed)))
