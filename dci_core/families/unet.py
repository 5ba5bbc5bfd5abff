"""Families that concepts are learned on, as rows of data: where the text is read, how wide, and how they are noised.

U-Nets, whose cross-attentions also say what SD 1.x has at the same place, and flows on joint attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..attention.layers import LayerId
from ..errors import BadModel
from ..noise.flow_schedule import FlowSchedule
from ..noise.process import FLOW
from ..noise.schedule import Schedule, sd_schedule
from .weight_names import SHARED_STAGES

# Image tokens of SD 1.x's layers at 512 px by number of halvings: what the released constants were tuned for.
SD1_TOKENS = {0: 4096, 1: 1024, 2: 256, 3: 64}


@dataclass(frozen=True)
class Family:
    """One kind of model.

    blocks           (stage, block, halvings of the latent there, transformer blocks), in the order of the forward pass;
                     stages of an MM-DiT are "double" and "single"
    channels         width of the image tokens, by halvings
    encoders         width of each text encoder's token rows
    context_width    width of what keys and values of the text are projected from
    tokens_by_depth  SD 1.x's image tokens at the same place, by halvings: N_ref of gain `scaled`
    prediction       "eps", "v" or "flow": what the network was trained to give
    picture_size     side in pixels that it was trained at
    latent_scale     pixels per latent cell
    shift            of a flow's times towards noise
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
        return tuple(layer for layer in self.layers if layer.stage not in SHARED_STAGES)

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
        """Width of the image tokens at a layer."""
        return self.channels[self.depths[layer]]


def unet_blocks(
    stage: str, blocks: Mapping[int, int], count: Mapping[int, int]
) -> tuple[tuple[str, int, int, int], ...]:
    """Rows of `Family.blocks` from {block: halvings} and {halvings: transformer blocks}."""
    return tuple((stage, block, depth, count[depth]) for block, depth in blocks.items())


ONE = dict.fromkeys(range(4), 1)
SD_BLOCKS = (
    *unet_blocks("input", {1: 0, 2: 0, 4: 1, 5: 1, 7: 2, 8: 2}, ONE),
    ("middle", 0, 3, 1),
    *unet_blocks("output", {3: 2, 4: 2, 5: 2, 6: 1, 7: 1, 8: 1, 9: 0, 10: 0, 11: 0}, ONE),
)
SDXL_COUNT = {1: 2, 2: 10}
SDXL_BLOCKS = (
    *unet_blocks("input", {4: 1, 5: 1, 7: 2, 8: 2}, SDXL_COUNT),
    ("middle", 0, 2, 10),
    *unet_blocks("output", {0: 2, 1: 2, 2: 2, 3: 1, 4: 1, 5: 1}, SDXL_COUNT),
)
TINY_BLOCKS = (
    *unet_blocks("input", {1: 0, 3: 1, 5: 2}, ONE),
    ("middle", 0, 2, 1),
    *unet_blocks("output", {0: 2, 1: 2, 2: 1, 3: 1, 4: 0, 5: 0}, ONE),
)
SD_CHANNELS = (320, 640, 1280, 1280)
TINY_TOKENS = {0: 1024, 1: 256, 2: 64}  # its 16, 8 and 4 a side stand where SD 1.x has 32, 16 and 8
TINY_FLOW_BLOCKS = (*unet_blocks("double", {0: 1, 1: 1}, ONE), *unet_blocks("single", dict.fromkeys(range(4), 1), ONE))
TINY_FLOW_TOKENS = {1: 64}  # its own: every block has 8 a side

FAMILIES = {
    family.name: family
    for family in (
        Family("tiny", TINY_BLOCKS, (64, 128, 128), {"clip_l": 128}, 128, TINY_TOKENS, "eps", 128, latent_channels=8),
        Family(
            *("tiny_flow", TINY_FLOW_BLOCKS, (192, 192), {"clip_l": 128}, 192, TINY_FLOW_TOKENS, "flow", 128),
            latent_channels=8,
            shift=1.5,
        ),
        Family("sd15", SD_BLOCKS, SD_CHANNELS, {"clip_l": 768}, 768, SD1_TOKENS, "eps", 512),
        Family("sd15_v", SD_BLOCKS, SD_CHANNELS, {"clip_l": 768}, 768, SD1_TOKENS, "v", 512),
        Family("sd21_base", SD_BLOCKS, SD_CHANNELS, {"clip_h": 1024}, 1024, SD1_TOKENS, "eps", 512),
        Family("sd21", SD_BLOCKS, SD_CHANNELS, {"clip_h": 1024}, 1024, SD1_TOKENS, "v", 768),
        Family("sdxl", SDXL_BLOCKS, SD_CHANNELS[:3], {"clip_l": 768, "clip_g": 1280}, 2048, SD1_TOKENS, "eps", 1024),
        Family("sdxl_v", SDXL_BLOCKS, SD_CHANNELS[:3], {"clip_l": 768, "clip_g": 1280}, 2048, SD1_TOKENS, "v", 1024),
    )
}


def find_family(name: str) -> Family:
    """The family of that name; raises BadModel."""
    if name not in FAMILIES:
        raise BadModel(
            f"the model calls its family {name!r}",
            f"one of {', '.join(FAMILIES)} is expected",
            "use a model of one of these families",
        )
    return FAMILIES[name]
