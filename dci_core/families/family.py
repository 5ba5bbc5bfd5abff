"""One kind of model that concepts are learned on: where it reads the text, how wide that is, how it is noised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..attention.layers import LayerId
from ..noise.flow_schedule import FlowSchedule
from ..noise.process import FLOW
from ..noise.schedule import Schedule, sd_schedule
from .weight_names import ALONE_STAGES, REFINER, SHARED_STAGES


@dataclass(frozen=True)
class Family:
    """One kind of model.

    blocks           (stage, block, halvings of the latent there, transformer blocks), in the order of the forward pass;
                     the stages are those of `LayerId`
    channels         width of the image tokens, by halvings
    encoders         width of each text encoder's token rows
    context_width    width of what keys and values of the text are projected from
    tokens_by_depth  SD 1.x's image tokens at the same place, by halvings: N_ref of gain `scaled`
    prediction       "eps", "v" or "flow": what the network was trained to give
    picture_size     side in pixels that it was trained at
    latent_scale     pixels per latent cell
    shift            of a flow's times towards noise
    layout           the kind of network: "unet", or what hosts name a transformer by
    has_begin_mark   whether a text's first row is a mark, which a training holds still
    text_stream      the tokenizer whose tokens are the text's rows, one for each; "": every encoder's alike, in chunks
    behind           the text encoder whose rows stand behind those of all others, which stand side by side; "": none
    reserved         per tokenizer that has no table of vectors to learn in: ids that stand for modifier tokens
    has_time         whether latents have an axis of frames, of which a picture has one
    is_trained       whether concepts can be learned on it; else they are only loaded
    refiners         blocks that the text goes through alone, before the network's others: a concept changes these where
                     no other weights serve the text alone
    refiner_stage    what those blocks are called in a concept
    is_padded        whether a text has as many rows as its encoder fills; else as many as it has tokens
    keeps_template   whether what a tokenizer writes before a prompt is among those rows
    takes_embeddings  whether a prompt can name an embedding file
    stacked          layers of the text encoder that stand side by side in each row
    has_second       whether some blocks have a second attention, of the image alone: SD 3.5 medium beside SD 3 medium
    stand_ins        ordinary nouns that it draws easily in any scene, those first that are taken first
    """

    name: str
    blocks: tuple[tuple[str, int, int, int], ...]
    channels: tuple[int, ...]
    encoders: Mapping[str, int]
    context_width: int
    tokens_by_depth: Mapping[int, int]
    prediction: str
    picture_size: int
    latent_channels: int = 4
    latent_scale: int = 8
    shift: float = 1.0
    layout: str = "unet"
    has_begin_mark: bool = True
    text_stream: str = ""
    behind: str = ""
    reserved: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    has_time: bool = False
    is_trained: bool = True
    refiners: int = 0
    refiner_stage: str = REFINER
    is_padded: bool = True
    keeps_template: bool = True
    takes_embeddings: bool = True
    stacked: int = 1
    has_second: bool = False
    stand_ins: tuple[str, ...] = ("cat", "dog", "bird", "car")

    @cached_property
    def depths(self) -> dict[LayerId, int]:
        """Halvings of the latent at each cross-attention layer, in the order of the forward pass."""
        return {
            LayerId(stage, block, index): depth for stage, block, depth, count in self.blocks for index in range(count)
        }

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """Every layer that reads text, in the order of the forward pass."""
        return tuple(self.depths)

    @property
    def learned_layers(self) -> tuple[LayerId, ...]:
        """Layers whose key and value weights a concept changes: those that serve the text alone."""
        first = [LayerId(self.refiner_stage, index) for index in range(self.refiners)]
        return (*first, *(layer for layer in self.layers if layer.stage not in SHARED_STAGES))

    @cached_property
    def reference_tokens(self) -> dict[LayerId, int]:
        """N_ref of each layer: how many image tokens SD 1.x has at the same place."""
        return {layer: self.tokens_by_depth[depth] for layer, depth in self.depths.items()}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one latent at the family's picture size."""
        side = self.picture_size // self.latent_scale
        return self.latent_channels, side, side

    @property
    def is_flow(self) -> bool:
        """Whether it is a rectified flow, and not a diffusion."""
        return self.prediction == FLOW

    @cached_property
    def schedule(self) -> Schedule | FlowSchedule:
        """Noise levels of a run, and the window in them."""
        return FlowSchedule(self.shift) if self.is_flow else sd_schedule()

    def width(self, layer: LayerId) -> int:
        """Width of the tokens at a layer: of the image, or of the text where it is alone."""
        return self.context_width if layer.stage in ALONE_STAGES else self.channels[self.depths.get(layer, -1)]
