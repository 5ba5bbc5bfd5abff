"""A small CLIP vision tower; parameter names as in the public CLIP checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...dynaip.clip_pixels import MEAN, STD, clip_pixels
from ..text import Encoder

LEVELS = (2, 4, 6)  # hidden states that an adapter fuses; state 0 is the patch embedding
CONFIG_FILE = Path(__file__).parents[1] / "weights" / "vision.json"  # the sizes, as the host's loader wants them


@dataclass(frozen=True)
class VisionParams:
    """Sizes of the tower; defaults are the tiny world's. picture and patch in pixels, a side."""

    picture: int = 64
    patch: int = 8
    width: int = 128
    layers: int = 6
    heads: int = 4
    projection: int = 128
    is_causal: bool = False

    @property
    def tokens(self) -> int:
        """Rows of a hidden state: the class token, then the patches row by row."""
        return 1 + (self.picture // self.patch) ** 2

    def config(self) -> dict[str, Any]:
        """What the host and transformers call a CLIP vision config."""
        return {
            "model_type": "clip_vision_model",
            "hidden_act": "quick_gelu",
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_channels": 3,
            "image_size": self.picture,
            "patch_size": self.patch,
            "projection_dim": self.projection,
            "layer_norm_eps": 1e-5,
            "image_mean": list(MEAN),
            "image_std": list(STD),
        }


class VisionEmbeddings(nn.Module):
    """Patches, the class token before them, and positions."""

    def __init__(self, params: VisionParams) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(params.width) * 0.02)
        self.patch_embedding = nn.Conv2d(3, params.width, params.patch, params.patch, bias=False)
        self.position_embedding = nn.Embedding(params.tokens, params.width)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).mT  # b t c
        whole = self.class_embedding.expand(len(x), 1, -1)
        return torch.cat((whole, patches), dim=1) + self.position_embedding.weight


class VisionModel(nn.Module):
    """The tower without its projection."""

    def __init__(self, params: VisionParams) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(params)
        self.pre_layrnorm = nn.LayerNorm(params.width)  # spelt so in the public checkpoints
        self.encoder = Encoder(params)
        self.post_layernorm = nn.LayerNorm(params.width)


class VisionTower(nn.Module):
    """Reads pictures of any size; a picture is cut to a square in the middle."""

    def __init__(self, params: VisionParams | None = None) -> None:
        super().__init__()
        self.params = params or VisionParams()
        self.vision_model = VisionModel(self.params)
        self.visual_projection = nn.Linear(self.params.width, self.params.projection, bias=False)

    def states(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Hidden states [b t c] of pictures [b 3 h w] in 0..1: the normed patch embedding, then each layer's output."""
        x = self.vision_model.embeddings(clip_pixels(pictures, self.params.picture))
        found = [self.vision_model.pre_layrnorm(x)]
        for layer in self.vision_model.encoder.layers:
            found.append(layer(found[-1]))
        return tuple(found)

    def project(self, states: tuple[Tensor, ...]) -> Tensor:
        """Image vectors [b projection], for comparison with text, of the hidden states."""
        return self.visual_projection(self.vision_model.post_layernorm(states[-1][:, 0]))
