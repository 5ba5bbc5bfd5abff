"""FLUX.1 as a base that adapters are trained on: its own transformer, picture codec, text encoders, and a CLIP tower.

Everything is frozen and lies on one device. Passes run in the precision of the weights, without autocast.
Source of the constants: Black Forest Labs' released model and its configuration files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..attention.joint import JointRule
from ..devices import autocast
from ..dynaip.clip_pixels import clip_pixels
from ..fingerprint import short_hash, tensor_bytes
from ..model import Text
from ..noise.schedule import logit_normal, shifted
from .blocks import Hook
from .layers import FluxParams
from .transformer import MMDiT

FEW_TOKENS, MANY_TOKENS = 256, 4096  # image tokens between which the shift of the times grows: 256 and 1024 px
FEW_SHIFT, MANY_SHIFT = 0.5, 1.15  # its logarithm there
CLIP_ROWS = 77
SAMPLE = 256  # numbers of each tensor that the fingerprint reads


def log_shift(tokens: int) -> float:
    """Logarithm of the shift of the times towards noise, for pictures of so many image tokens."""
    return FEW_SHIFT + (MANY_SHIFT - FEW_SHIFT) * (tokens - FEW_TOKENS) / (MANY_TOKENS - FEW_TOKENS)


def pixels_per_token(codec: Any) -> int:
    """A side, of pictures that this codec (diffusers' AutoencoderKL) turns into latents."""
    return FluxParams.patch * int(2 ** (len(codec.config.block_out_channels) - 1))


@dataclass(frozen=True)
class FluxText:
    """CLIP's pooled vector and T5's hidden states, as the transformer was trained with.

    clip, t5                 the encoders
    clip_tokens, t5_tokens   their tokenizers
    rows                     T5 tokens of every prompt, padding included; longer ones are cut
    """

    clip: Any
    t5: Any
    clip_tokens: Any
    t5_tokens: Any
    rows: int = 512

    def encode(self, prompts: Sequence[str]) -> Text:
        """Hidden states [b rows 4096] and pooled vectors [b 768]."""
        pooled = self.clip(_ids(self.clip_tokens, prompts, CLIP_ROWS).to(self.clip.device)).pooler_output
        return Text(self.t5(_ids(self.t5_tokens, prompts, self.rows).to(self.t5.device))[0], pooled)


def _ids(tokens: Any, prompts: Sequence[str], rows: int) -> Tensor:
    """Token ids [b rows]."""
    found = tokens(list(prompts), padding="max_length", max_length=rows, truncation=True, return_tensors="pt")
    ids: Tensor = found.input_ids
    return ids


@dataclass(frozen=True)
class FluxBase:
    """A `FlowBase`.

    codec     diffusers' AutoencoderKL
    tower     transformers' CLIPVisionModel
    size      pixels a side of the pictures it is trained with here, a multiple of 16
    guidance  strength that a model distilled for guidance is told, in training and on the sheet
    """

    transformer: MMDiT
    codec: Any
    text: FluxText
    tower: Any
    size: int = 512
    guidance: float = 1.0
    cfg: float = 1.0
    family: str = "flux"

    @property
    def vision(self) -> tuple[int, int]:
        """(width, layers) of the vision tower."""
        return self.tower.config.hidden_size, self.tower.config.num_hidden_layers

    def fingerprint(self) -> str:
        """Of names, shapes and some numbers of every part's tensors."""
        tensors = _tensors(self.transformer, self.codec, self.text.clip, self.text.t5, self.tower)
        some = ((name, x.shape, x.flatten()[:SAMPLE]) for name, x in tensors)
        return short_hash(f"{name} {tuple(shape)}".encode() + tensor_bytes(x, torch.float64) for name, shape, x in some)

    def latents(self, pictures: Tensor) -> Tensor:
        """[b c h w] of pictures [b 3 size size] in 0..1."""
        config = self.codec.config
        found = self.codec.encode((2 * pictures - 1).to(self.codec.dtype)).latent_dist.mode()
        latents: Tensor = (found - config.shift_factor) * config.scaling_factor
        return latents

    def pictures(self, latents: Tensor) -> Tensor:
        """Pictures [b 3 size size] in 0..1 of latents."""
        config = self.codec.config
        plain = latents.to(self.codec.dtype) / config.scaling_factor + config.shift_factor
        decoded: Tensor = self.codec.decode(plain).sample
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    def encode(self, prompts: Sequence[str]) -> Text:
        """One row of text for each prompt."""
        return self.text.encode(prompts)

    def states(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Hidden states [b t c] of the vision tower for references [b 3 h w] in 0..1."""
        pixels = clip_pixels(pictures, self.tower.config.image_size).to(self.tower.dtype)
        return tuple(self.tower(pixels, output_hidden_states=True).hidden_states)

    @property
    def shift(self) -> float:
        """Of the times towards noise, at this size."""
        side = self.size // pixels_per_token(self.codec)
        return math.exp(log_shift(side * side))

    def times(self, uniform: Tensor) -> Tensor:
        """The sigmoid of a normal number, shifted towards noise as sampling at this size is."""
        return logit_normal(uniform, self.shift)

    def schedule(self, num_steps: int) -> Tensor:
        """Falling times from 1 to 0."""
        return shifted(torch.linspace(1, 0, num_steps + 1), self.shift)

    def velocity(self, x: Tensor, t: Tensor, text: Text, rule: JointRule | None = None) -> Tensor:
        """noise - x0 at x [b c h w] and t [b]."""
        assert text.pooled is not None
        kind = self.transformer.img_in.weight.dtype
        hook = None if rule is None else Hook(rule, torch.ones(len(x)))
        guidance = torch.full((len(x),), self.guidance, device=x.device)
        with autocast(x.device, None):
            hidden, pooled = text.hidden.to(kind), text.pooled.to(kind)
            return self.transformer(x.to(kind), t, hidden, pooled, hook, guidance=guidance).to(x)


def _tensors(*parts: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the parts, one after the other."""
    for part in parts:
        yield from part.state_dict().items()
