"""The adapter beside a model: an untrained one changes no bit, and a reference is prepared once."""

from __future__ import annotations

import pytest
import torch

from dci_core.attention.joint import BlockId, JointRule
from dci_core.attention.rows import TokenRows
from dci_core.dynaip.adapter import Adapter, AdapterParams, default_params
from dci_core.dynaip.decoupled import image_prompt_rule
from dci_core.dynaip.reference import prepare_reference
from dci_core.dynaip.subject import Subject, read_blocks
from dci_core.errors import BadAdapter, BadLayers, BadModel, BadSettings
from dci_core.families.mmdit import FAMILIES, find_mmdit

from ..small_adapters import draw_states, trained, untrained
from .joint_model import JointModel, draw_inputs

EVERYTHING = Subject(text_scale=1.0)


def run(rule: JointRule | None) -> torch.Tensor:
    """The last rows of the toy."""
    image, text = draw_inputs(dtype=torch.float32)
    return JointModel(dtype=torch.float32)(image, text, rule).last


def make_rule(adapter: Adapter, subject: Subject = EVERYTHING) -> JointRule:
    return image_prompt_rule([prepare_reference(adapter, draw_states()).kvs], [subject])


@pytest.mark.parametrize("text_kv", [True, False])
def test_an_untrained_adapter_changes_no_bit_and_a_trained_one_does(text_kv: bool) -> None:
    plain = run(None)
    assert torch.equal(run(make_rule(untrained(text_kv=text_kv))), plain)
    assert not torch.allclose(run(make_rule(trained(text_kv=text_kv))), plain, atol=1e-3)


def test_an_untrained_adapter_learns_from_its_first_step() -> None:
    adapter = untrained()
    tokens = adapter.fuse(draw_states(2)).tokens
    kvs = [adapter.kv(block, tokens) for block in adapter.params.block_ids]
    sum((pair[1] ** 2).sum() + pair[1].sum() for kv in kvs for pair in (kv.image, kv.text)).backward()
    grads = [maps.to_v.weight.grad for block in adapter.blocks.values() for maps in block.values()]
    assert len(grads) == 2 * 2 + 4
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_text_scale_moves_the_picture_of_the_toy() -> None:
    adapter = trained()
    results = [run(make_rule(adapter, Subject(text_scale=s))) for s in (0.0, 0.5, 1.0)]
    assert not torch.allclose(results[0], results[1]) and not torch.allclose(results[1], results[2])
    assert torch.equal(results[0], run(make_rule(adapter, Subject(text_scale=0.0))))


def test_text_rows_of_double_blocks_have_keys_of_their_own_where_asked() -> None:
    tokens = trained().fuse(draw_states()).tokens
    double, single = BlockId("double", 0), BlockId("single", 3)
    own, shared = trained(), trained(text_kv=False)
    assert not torch.equal(own.kv(double, tokens).text[0], own.kv(double, tokens).image[0])
    assert own.kv(single, tokens).text is own.kv(single, tokens).image or torch.equal(
        own.kv(single, tokens).text[0], own.kv(single, tokens).image[0]
    )
    assert torch.equal(shared.kv(double, tokens).text[1], shared.kv(double, tokens).image[1])


def test_the_norm_of_keys_and_values_is_the_one_that_was_chosen() -> None:
    def sizes(norm: str) -> tuple[float, float]:
        adapter = trained(norm=norm)
        k, v = adapter.kv(BlockId("double", 0), adapter.fuse(draw_states()).tokens).image
        return float(k.square().mean(-1).sub(1).abs().max()), float(v.square().mean(-1).sub(1).abs().max())

    assert sizes("keys")[0] < 1e-3 < sizes("keys")[1]
    assert max(sizes("both")) < 1e-3
    assert min(sizes("none")) > 1e-3


def test_a_reference_holds_every_block_and_its_pictures_stand_side_by_side() -> None:
    adapter, family = trained(), FAMILIES["tiny_flow"]
    one, two = (prepare_reference(adapter, draw_states(pictures)) for pictures in (1, 2))
    assert tuple(one.kvs) == family.block_ids
    assert one.tokens.shape == (1, 3, 10) and two.tokens.shape == (1, 6, 10)
    k, v = two.kvs[BlockId("single", 0)].image
    assert k.shape == v.shape == (1, family.heads, 6, family.head_dim)
    assert two.weights.shape == (2, 3)
    assert not k.requires_grad


def test_a_picture_given_twice_reads_as_once() -> None:
    adapter, states = trained(), draw_states()
    once, twice = (
        image_prompt_rule([prepare_reference(adapter, how).kvs], [EVERYTHING])
        for how in (states, [torch.cat([state, state]) for state in states])
    )
    torch.testing.assert_close(run(twice), run(once), rtol=1e-4, atol=1e-5)


def test_a_reference_moves_to_the_precision_of_the_model() -> None:
    half = prepare_reference(trained(), draw_states()).to(torch.device("cpu"), torch.bfloat16)
    assert {x.dtype for kv in half.kvs.values() for pair in (kv.image, kv.text) for x in pair} == {torch.bfloat16}
    single = half.kvs[BlockId("single", 0)]
    assert single.text is single.image


def test_the_weights_of_the_levels_reach_the_reference() -> None:
    fine, coarse = (prepare_reference(trained(), draw_states(), weights=w) for w in ((1, 0, 0), (0, 0, 1)))
    assert not torch.allclose(fine.tokens, coarse.tokens)


def test_an_adapter_for_some_blocks_has_those_alone() -> None:
    some = (BlockId("double", 1), BlockId("single", 0))
    adapter = trained(blocks=some)
    assert tuple(prepare_reference(adapter, draw_states()).kvs) == some
    with pytest.raises(BadModel, match=r"block single\.1 came"):
        adapter.kv(BlockId("single", 1), adapter.fuse(draw_states()).tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_an_adapter_of_its_own_size(family: str) -> None:
    params, row = default_params(family), FAMILIES[family]
    with torch.device("meta"):
        adapter = Adapter(params)
        tokens = torch.empty(2, params.tokens, params.token_width)
        kv = adapter.kv(row.block_ids[-1], tokens)
    assert kv.image[0].shape == (2, row.heads, params.tokens, row.head_dim)
    assert len(adapter.blocks) == len(row.block_ids)
    assert row.heads * row.head_dim == row.width


def test_the_flux_adapter_reads_levels_10_17_and_23_of_a_24_layer_clip() -> None:
    params = default_params("flux")
    assert (params.levels, params.vision_layers, params.vision_width) == ((10, 17, 23), 24, 1024)


@pytest.mark.parametrize(
    "changes",
    [{"levels": (4, 2)}, {"levels": (2, 7)}, {"norm": "x"}, {"blocks": (BlockId("double", 9),)}, {"expert_heads": 3}],
)
def test_an_adapter_that_contradicts_itself_gets_a_sentence(changes: dict[str, object]) -> None:
    with pytest.raises(BadAdapter, match="were expected"):
        trained(**changes)


def test_a_u_net_gets_a_sentence() -> None:
    with pytest.raises(BadModel, match="a U-Net has no joint attention"):
        find_mmdit("sd15")
    with pytest.raises(BadModel):
        AdapterParams("sdxl")


def test_blocks_are_named_by_text() -> None:
    known = FAMILIES["tiny_flow"].block_ids
    assert read_blocks("all", known) is None
    assert read_blocks("double", known) == frozenset(known[:2])
    assert read_blocks("double.1, single1-2", known) == {
        BlockId("double", 1),
        BlockId("single", 1),
        BlockId("single", 2),
    }
    assert [str(block) for block in sorted(known)][:3] == ["double.0", "double.1", "single.0"]


@pytest.mark.parametrize("text", ["", "double7", "in4", "double:0.5"])
def test_a_block_text_that_names_nothing_gets_a_sentence(text: str) -> None:
    with pytest.raises(BadLayers, match="expected"):
        read_blocks(text, FAMILIES["tiny_flow"].block_ids)


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": -1.0},
        {"text_scale": 1.5},
        {"start": 0.6, "end": 0.5},
        {"region": torch.ones(2)},
        {"region": 2 * torch.ones(2, 2)},
        {"region": torch.full((2, 2), float("nan"))},
    ],
)
def test_a_subject_that_cannot_be_read_gets_a_sentence(bad: dict[str, object]) -> None:
    with pytest.raises(BadSettings, match="the subject"):
        Subject(**bad)


def test_rows_are_built_from_counts_and_checked() -> None:
    assert TokenRows.text_first(3, 4) == TokenRows(slice(0, 3), slice(3, 7))
    assert TokenRows.image_first(3, 4) == TokenRows(slice(4, 7), slice(0, 4))
    assert (TokenRows.image_only(4).text_count, TokenRows.image_only(4).image_count) == (0, 4)
    with pytest.raises(BadModel, match="counted from the first row"):
        TokenRows(slice(0, 3), slice(-4, None))
