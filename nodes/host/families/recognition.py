"""Which family a loaded model belongs to."""

from __future__ import annotations

from typing import Any

from ....dci_core.attention.layers import LayerId
from ....dci_core.errors import BadModel
from ....dci_core.families.family import Family
from ....dci_core.families.table import FAMILIES
from .blocks import cross_attention_blocks
from .transformers import layout_of, titles, transformer_family


def family_of(model: Any) -> Family:
    """The family of a MODEL: a transformer's by its class, blocks and width, a U-Net's by its cross-attentions, its
    text width and what it predicts; raises BadModel.
    """
    network = model.model.diffusion_model
    if (layout := layout_of(network)) is not None:
        return transformer_family(layout, network)
    layers = cross_attention_layers(model)
    width, prediction = text_width(model), prediction_of(model)
    for family in FAMILIES.values():
        if (family.layers, family.context_width, family.prediction) == (layers, width, prediction):
            return family
    raise BadModel(
        f"the model is a U-Net with {len(layers)} cross-attentions, text {width} wide, that predicts {prediction}",
        f"one of {', '.join(FAMILIES)} is expected",
        "load a checkpoint of one of these families",
    )


def cross_attention_layers(model: Any) -> tuple[LayerId, ...]:
    """Every text cross-attention of a U-Net patcher, numbered as the host does, in the order of the forward pass."""
    network = model.model.diffusion_model
    if not hasattr(network, "input_blocks"):
        raise BadModel(
            f"the model is a {type(network).__name__}",
            f"a U-Net with cross-attention (SD 1.x, SD 2.x, SDXL, tiny), {' or '.join(titles())} is expected",
            "load one of those",
        )
    return cross_attention_blocks(network)


def text_width(model: Any) -> int:
    """Channels of the text that the U-Net reads."""
    width = model.model.model_config.unet_config.get("context_dim")
    return int(width[0] if isinstance(width, list) else width or 0)


def prediction_of(model: Any) -> str:
    """ "eps" or "v", by the model's own sampling object."""
    from comfy.model_sampling import V_PREDICTION

    return "v" if isinstance(model.get_model_object("model_sampling"), V_PREDICTION) else "eps"
