"""Families that concepts are learned on, as rows of data.

U-Nets, whose cross-attentions also say what SD 1.x has at the same place, and transformers: flows that read the text in
joint attentions or in cross-attentions. Their N_ref is a beginning and not measured here: that of SD 1.x's 16 x 16
layers, which decide, in blocks of which it is published that nouns can be found in them, and of its largest, which
lean, in all others. Where nothing is published every block decides.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

from ..errors import BadModel
from .family import Family
from .weight_names import FUSION

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
BLOCK_TOKENS = {0: 4096, 1: 256}  # of blocks that lean, and of those that decide
T5_SENTINELS = tuple(range(32099, 32083, -1))  # <extra_id_0> and on: ids of T5 that no word has
T5_TEXT = {"clip_l": 768, "t5xxl": 4096}
FLUX_SHIFT = math.exp(1.15)
FLUX2: dict[str, Any] = {"latent_channels": 128, "latent_scale": 16, "shift": math.exp(2.02), "stacked": 3}


IN_TEMPLATE: dict[str, Any] = {  # Qwen-Image's and Krea 2's: a prompt inside words that the network does not read
    **{"shift": FLUX_SHIFT, "has_time": True, "keeps_template": False, "takes_embeddings": False}
}
SD3_TEXT = {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}


def blocks_of(stage: str, count: int, deciding: Container[int] = ()) -> tuple[tuple[str, int, int, int], ...]:
    """Rows of `Family.blocks` of so many transformer blocks, of which some decide."""
    return unet_blocks(stage, {block: int(block in deciding) for block in range(count)}, ONE)


def flux_layout(
    name: str,
    width: int,
    doubles: int,
    singles: int,
    encoders: Mapping[str, int],
    deciding: tuple[Container[int], Container[int]],
    **more: Any,
) -> Family:
    """A row of Flux's layout: double blocks, whose text has weights of its own, then single ones.

    deciding  double and single blocks that decide
    """
    blocks = (*blocks_of("double", doubles, deciding[0]), *blocks_of("single", singles, deciding[1]))
    facts = {"layout": "flux", "has_begin_mark": False, "text_stream": list(encoders)[-1], **more}
    return Family(name, blocks, (width, width), encoders, width, BLOCK_TOKENS, "flow", 1024, **facts)


def sd3_layout(name: str, width: int, count: int, deciding: Container[int], has_second: bool = False) -> Family:
    """A row of SD 3's layout: joint attentions, before which CLIP's rows stand and T5's behind them."""
    return Family(
        *(name, blocks_of("context", count, deciding), (width, width), SD3_TEXT, width, BLOCK_TOKENS, "flow", 1024),
        latent_channels=16,
        shift=3.0,
        layout="sd3",
        behind="t5xxl",
        has_second=has_second,
    )


def language_layout(
    name: str, blocks: tuple[tuple[str, int, int, int], ...], width: int, encoder: Mapping[str, int], **more: Any
) -> Family:
    """A row of a transformer that reads the rows of one language model, as many as a text has tokens.

    width  of an image token, and of the text's where `more` does not say otherwise
    """
    facts: dict[str, Any] = {
        "context_width": width,
        "latent_channels": 16,
        "has_begin_mark": False,
        "is_padded": False,
        **more,
    }
    facts |= {"tokens_by_depth": BLOCK_TOKENS, "prediction": "flow", "picture_size": 1024, "layout": name}
    return Family(name, blocks, (width, width), encoder, text_stream=next(iter(encoder)), **facts)


TINY_STAND_INS = ("cat", "star", "heart")  # nouns of the small worlds that have no home

FAMILIES = {
    family.name: family
    for family in (
        Family(
            *("tiny", TINY_BLOCKS, (64, 128, 128), {"clip_l": 128}, 128, TINY_TOKENS, "eps", 128),
            latent_channels=8,
            stand_ins=TINY_STAND_INS,
        ),
        Family(
            *("tiny_flow", TINY_FLOW_BLOCKS, (192, 192), {"clip_l": 128}, 192, TINY_FLOW_TOKENS, "flow", 128),
            latent_channels=8,
            shift=1.5,
            layout="flux",
            stand_ins=TINY_STAND_INS,
        ),
        Family(
            *("anima", blocks_of("block", 28, range(28)), (2048, 2048), {"qwen3_06b": 1024}, 1024),
            *(BLOCK_TOKENS, "flow", 1024),
            latent_channels=16,
            shift=3.0,
            layout="anima",
            has_begin_mark=False,
            text_stream="t5xxl",
            reserved={"t5xxl": T5_SENTINELS},
            has_time=True,
            takes_embeddings=False,
        ),
        # Doubles 15 to 18: Helbling et al. 2025 (arXiv 2502.04320); Chroma is made from this model
        flux_layout("flux", 3072, 19, 38, T5_TEXT, (range(15, 19), ()), latent_channels=16, shift=FLUX_SHIFT),
        flux_layout(
            *("chroma", 3072, 19, 38, {"t5xxl": 4096}, (range(15, 19), ())),
            latent_channels=16,
            shift=FLUX_SHIFT,
            layout="chroma",
            is_trained=False,
        ),
        # Doubles 5 to 7 of eight: the same authors' code for FLUX.2; the single blocks: FreeFuse's workflows
        flux_layout("flux2_klein_4b", 3072, 5, 20, {"qwen3_4b": 2560}, (range(3, 5), (6,)), **FLUX2),
        flux_layout("flux2_klein_9b", 4096, 8, 24, {"qwen3_8b": 4096}, (range(5, 8), (3,)), **FLUX2),
        # Layer 18 of 30: FreeFuse's code for Z-Image Turbo
        language_layout("z_image", blocks_of("layer", 30, (18,)), 3840, {"qwen3_4b": 2560}, shift=3.0, refiners=2),
        language_layout(
            *("qwen_image", blocks_of("joint", 60, range(60)), 3072, {"qwen25_7b": 3584}),
            **IN_TEMPLATE,
        ),
        # Of Krea 2's layers nothing was found: all decide
        language_layout(
            *("krea2", blocks_of("layer", 28, range(28)), 6144, {"qwen3vl_4b": 2560}),
            context_width=2560,
            refiners=2,
            refiner_stage=FUSION,
            stacked=12,
            **IN_TEMPLATE,
        ),
        # SD 3 medium: block 9 of 24, from Seg4Diff's settings (arXiv 2509.18096); of SD 3.5 nothing was found
        sd3_layout("sd3_medium", 1536, 24, (9,)),
        sd3_layout("sd35_medium", 1536, 24, range(24), has_second=True),
        sd3_layout("sd35_large", 2432, 38, range(38)),
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
