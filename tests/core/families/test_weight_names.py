"""LDM and diffusers names of the same layers."""

from __future__ import annotations

import pytest

from dci_core.attention.layers import LayerId
from dci_core.concept.exports import lora_name
from dci_core.families.table import FAMILIES
from dci_core.families.weight_names import (
    block_path,
    diffusers_path,
    in_order,
    read_diffusers,
    read_ldm,
    weight_key,
    weight_place,
)

KNOWN = {  # SD 1.x's correspondence, from the layouts of both U-Nets
    LayerId("input", 1): "down_blocks.0.attentions.0",
    LayerId("input", 2): "down_blocks.0.attentions.1",
    LayerId("input", 4): "down_blocks.1.attentions.0",
    LayerId("input", 8): "down_blocks.2.attentions.1",
    LayerId("middle", 0): "mid_block.attentions.0",
    LayerId("output", 3): "up_blocks.1.attentions.0",
    LayerId("output", 8): "up_blocks.2.attentions.2",
    LayerId("output", 11): "up_blocks.3.attentions.2",
}
SD15 = [LayerId("input", b) for b in (1, 2, 4, 5, 7, 8)] + [LayerId("output", b) for b in range(3, 12)]
SDXL = [LayerId("input", b, i) for b, n in ((4, 2), (5, 2), (7, 10), (8, 10)) for i in range(n)]
SDXL += [LayerId("output", b, i) for b, n in ((0, 10), (1, 10), (2, 10), (3, 2), (4, 2), (5, 2)) for i in range(n)]
MIDDLE = [LayerId("middle", 0, i) for i in range(10)]
TINY = [LayerId("input", b) for b in (1, 3, 5)] + [LayerId("output", b) for b in range(6)] + MIDDLE[:1]


def test_known_layers_have_their_known_names() -> None:
    for layer, name in KNOWN.items():
        assert diffusers_path(layer) == f"{name}.transformer_blocks.0.attn2"
    assert weight_key(LayerId("input", 1), "k") == "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    assert weight_key(LayerId("middle", 0), "v") == "middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    assert weight_key(LayerId("output", 2, 9), "v") == "output_blocks.2.1.transformer_blocks.9.attn2.to_v.weight"


@pytest.mark.parametrize(("layers", "res_blocks"), [(SD15 + MIDDLE[:1], 2), (SDXL + MIDDLE, 2), (TINY, 1)])
def test_names_go_there_and_back(layers: list[LayerId], res_blocks: int) -> None:
    for layer in layers:
        for part in "kv":
            assert read_ldm("model.diffusion_model." + weight_key(layer, part)) == (layer, part)
            path = diffusers_path(layer, res_blocks)
            assert read_diffusers(f"{path}.to_{part}.weight", res_blocks) == (layer, part)
            assert read_diffusers(f"{path}.processor.to_{part}_custom_diffusion.weight", res_blocks) == (layer, part)
    assert len({diffusers_path(layer, res_blocks) for layer in layers}) == len(layers)


def test_other_weights_are_not_taken_for_cross_attention() -> None:
    for key in ("to_q.weight", "to_out.0.weight"):
        assert read_ldm(f"{block_path(SD15[0])}.{key}") is None
    assert read_ldm("input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight") is None
    assert (
        read_diffusers("down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_q_custom_diffusion.weight")
        is None
    )


def test_a_transformers_cross_attention_has_weights_of_its_own() -> None:
    layer = LayerId("block", 27)
    assert weight_key(layer, "k") == "blocks.27.cross_attn.k_proj.weight"
    assert weight_place(layer, "v") == ("blocks.27.cross_attn.v_proj.weight", None)
    for part in "kv":
        assert (
            read_ldm("diffusion_model." + weight_key(layer, part)) == read_ldm(weight_key(layer, part)) == (layer, part)
        )
    for other in ("blocks.27.self_attn.k_proj.weight", "llm_adapter.blocks.0.cross_attn.q_proj.weight"):
        assert read_ldm(other) is None
    assert lora_name("anima", layer, "k") == "lora_unet_blocks_27_cross_attn_k_proj"


def test_layers_are_sorted_as_the_forward_pass_meets_them() -> None:
    mixed = [
        LayerId("output", 10),
        LayerId("output", 9),
        LayerId("middle", 0),
        LayerId("input", 2),
        LayerId("input", 1, 1),
    ]
    assert in_order(mixed) == [mixed[4], mixed[3], mixed[2], mixed[1], mixed[0]]


def test_sd3s_text_has_thirds_of_a_weight_of_its_own_in_every_block() -> None:
    layer = LayerId("context", 23)
    assert weight_place(layer, "v") == ("joint_blocks.23.context_block.attn.qkv.weight", 2)
    assert read_ldm("diffusion_model." + weight_key(layer, "k")) == (layer, "k")
    assert read_ldm("joint_blocks.0.x_block.attn.to_k.weight") is None
    assert FAMILIES["sd3_medium"].learned_layers[-1] == layer and len(FAMILIES["sd35_large"].layers) == 38
    assert FAMILIES["sd35_medium"].has_second and not FAMILIES["sd3_medium"].has_second


def test_krea2s_text_goes_through_two_blocks_of_its_own_width() -> None:
    first, layer = LayerId("fusion", 1), LayerId("layer", 27)
    assert weight_place(first, "k") == ("txtfusion.refiner_blocks.1.attn.wk.weight", None)
    assert read_ldm("diffusion_model." + weight_key(first, "v")) == (first, "v")
    assert lora_name("krea2", first, "v") == "lora_unet_txtfusion_refiner_blocks_1_attn_wv"
    for other in ("txtfusion.layerwise_blocks.0.attn.wk.weight", "blocks.0.attn.wk.weight"):
        assert read_ldm(other) is None
    family = FAMILIES["krea2"]
    assert family.learned_layers == (LayerId("fusion", 0), first) and family.layers[-1] == layer
    assert [family.width(one) for one in (first, layer)] == [2560, 6144]
    assert in_order([layer, first]) == [first, layer]


def test_qwen_images_text_has_weights_of_its_own_and_z_images_goes_through_two_blocks_first() -> None:
    joint, refiner = LayerId("joint", 59), LayerId("refiner", 1)
    assert weight_place(joint, "v") == ("transformer_blocks.59.attn.add_v_proj.weight", None)
    assert weight_place(refiner, "k") == ("context_refiner.1.attention.qkv.weight", 1)
    for layer in (joint, refiner):
        for part in "kv":
            assert read_ldm("diffusion_model." + weight_key(layer, part)) == (layer, part)
    for other in ("transformer_blocks.0.attn.to_k.weight", "noise_refiner.0.attention.to_k.weight"):
        assert read_ldm(other) is None
    assert in_order([LayerId("layer", 0), refiner]) == [refiner, LayerId("layer", 0)]
