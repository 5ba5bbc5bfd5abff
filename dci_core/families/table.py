"""Families that concepts are learned on, as rows of data.

U-Nets, whose cross-attentions also say what SD 1.x has at the same place, and flows on joint attention.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BadModel
from .family import Family

# Image tokens of SD 1.x's layers at 512 px by number of halvings: what the released constants were tuned for.
SD1_TOKENS = {0: 4096, 1: 1024, 2: 256, 3: 64}


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
