"""Layer texts and the families' layer lists."""

from __future__ import annotations

from collections import Counter

import pytest

from dci_core.attention.layers import LayerId, LayerMask
from dci_core.errors import BadLayers, BadModel
from dci_core.families.table import FAMILIES, find_family

SD15 = FAMILIES["sd15"].reference_tokens


def named(text: str, family: str = "sd15") -> dict[str, float]:
    shares = LayerMask(text).shares(FAMILIES[family].reference_tokens)
    return {f"{layer.stage}{layer.block}.{layer.index}": share for layer, share in shares.items()}


def test_sd15_has_the_hosts_sixteen_layers() -> None:
    blocks = {stage: [layer.block for layer in SD15 if layer.stage == stage] for stage in ("input", "middle", "output")}
    assert blocks == {"input": [1, 2, 4, 5, 7, 8], "middle": [0], "output": [3, 4, 5, 6, 7, 8, 9, 10, 11]}
    tokens = [SD15[layer] for layer in FAMILIES["sd15"].layers]
    assert tokens == [4096, 4096, 1024, 1024, 256, 256, 64, 256, 256, 256, 1024, 1024, 1024, 4096, 4096, 4096]


def test_sdxl_has_the_hosts_seventy_layers() -> None:
    count = Counter((layer.stage, layer.block) for layer in FAMILIES["sdxl"].layers)
    assert count == {
        **{("input", 4): 2, ("input", 5): 2, ("input", 7): 10, ("input", 8): 10, ("middle", 0): 10},
        **{
            ("output", 0): 10,
            ("output", 1): 10,
            ("output", 2): 10,
            ("output", 3): 2,
            ("output", 4): 2,
            ("output", 5): 2,
        },
    }
    assert len(FAMILIES["sdxl"].layers) == 70
    assert set(FAMILIES["sdxl"].reference_tokens.values()) == {1024, 256}  # 4096 and 1024 tokens at 1024 px


def test_tiny_layers_stand_where_sd15_has_32_16_and_8_a_side() -> None:
    tiny = FAMILIES["tiny"]
    assert [f"{layer.stage}{layer.block}" for layer in tiny.layers] == (
        ["input1", "input3", "input5", "middle0", "output0", "output1", "output2", "output3", "output4", "output5"]
    )
    side = tiny.latent_shape[1]
    for layer, depth in tiny.depths.items():
        assert {16: 1024, 8: 256, 4: 64}[side // 2**depth] == tiny.reference_tokens[layer]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_every_family_has_a_width_and_a_reference(name: str) -> None:
    family = find_family(name)
    assert all(family.width(layer) > 0 and family.reference_tokens[layer] > 0 for layer in family.layers)
    assert family.prediction in ("eps", "v", "flow")


def test_unknown_family_is_refused() -> None:
    with pytest.raises(BadModel, match="'sd9'"):
        find_family("sd9")


def test_presets_part_the_layers() -> None:
    every = set(named("all"))
    assert len(every) == 16 and set(named("encoder")) | set(named("middle")) | set(named("decoder")) == every
    assert set(named("coarse")) | set(named("fine")) == every and not set(named("coarse")) & set(named("fine"))
    assert set(named("coarse")) == {"input7.0", "input8.0", "middle0.0", "output3.0", "output4.0", "output5.0"}


def test_text_gives_shares_by_block_and_range() -> None:
    assert named("in4-8:1.0 mid:0.5 out3-5:0") == {
        **dict.fromkeys(("input4.0", "input5.0", "input7.0", "input8.0"), 1.0),
        **{"middle0.0": 0.5, "output3.0": 0.0, "output4.0": 0.0, "output5.0": 0.0},
    }


def test_later_items_override_and_case_and_commas_do_not_matter() -> None:
    shares = named("ALL:0.25, mid:1,in1:0")
    assert shares["middle0.0"] == 1 and shares["input1.0"] == 0 and shares["output11.0"] == 0.25


def test_an_index_names_one_of_a_blocks_transformers() -> None:
    assert list(named("in7.3:0.5 mid.9", "sdxl")) == ["input7.3", "middle0.9"]
    assert len(named("in7", "sdxl")) == 10


def test_transformers_are_named_by_their_blocks() -> None:
    anima, flux = (FAMILIES[name].reference_tokens for name in ("anima", "flux"))
    assert len(anima) == 28 and len(flux) == 19 + 38 and len(FAMILIES["flux"].learned_layers) == 19
    assert list(named("block4-6:0.5 block27", "anima")) == ["block4.0", "block5.0", "block6.0", "block27.0"]
    assert set(named("coarse", "flux")) == {f"double{i}.0" for i in range(15, 19)}
    assert len(named("single", "flux2_klein_9b")) == 24
    assert list(named("coarse", "z_image")) == ["layer18.0"] and len(named("joint", "qwen_image")) == 60
    assert [tuple(layer) for layer in FAMILIES["z_image"].learned_layers] == [("refiner", 0, 0), ("refiner", 1, 0)]
    assert FAMILIES["z_image"].width(FAMILIES["z_image"].learned_layers[0]) == 3840
    assert FAMILIES["qwen_image"].learned_layers == FAMILIES["qwen_image"].layers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (" , ", "is empty"),
        ("in3", "names no cross-attention layer; this model has them at in1 in2 in4 in5 in7 in8 mid out3"),
        ("mid3", "names no cross-attention layer"),
        ("in8-4", "names no cross-attention layer"),
        ("all in3:0", "names no"),
        ("everything", "'everything'; a preset"),
        ("all4", "'all4'"),
        ("in4:2", "share of 2"),
        ("in4:-1", "share of -1"),
        ("in4:nan", "share of nan"),
        ("in4:much", "share of much"),
        ("in4:1:0", "'in4:1:0'"),
    ],
)
def test_text_that_means_nothing_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadLayers, match=says):
        LayerMask(text).shares(SD15)


def test_layer_ids_are_plain_tuples() -> None:
    assert LayerId("middle", 0) == ("middle", 0, 0)
