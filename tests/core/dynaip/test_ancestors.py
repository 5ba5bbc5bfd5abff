"""The FLUX IP-Adapters of XLabs and InstantX: their keys, their maths, and decoupling on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from dci_core.attention.joint import BlockId
from dci_core.dynaip.adapter_file import check_vision, load_adapter
from dci_core.dynaip.ancestors import PooledAdapter, read_ancestor
from dci_core.dynaip.convert import convert_adapter
from dci_core.dynaip.decoupled import image_prompt_rule
from dci_core.dynaip.reference import prepare_reference
from dci_core.dynaip.subject import Subject
from dci_core.errors import BadAdapter, BadModel, BadSettings
from dci_core.families.mmdit import FAMILIES
from dci_core.program.main import main

from ..program_calls import sentence
from .ancestor_files import flat, instantx_state, xlabs_state
from .joint_model import JointModel, Run, draw_inputs

SMALL, FLUX = FAMILIES["tiny_flow"], FAMILIES["flux"]
VISION, TOKENS, WIDTH = 10, 3, 14
DOUBLE, SINGLE = BlockId("double", 1), BlockId("single", 2)
XLABS = xlabs_state(SMALL, VISION, TOKENS, WIDTH)
INSTANTX = flat(instantx_state(SMALL, VISION, TOKENS, WIDTH))


def read(state: dict[str, Tensor]) -> PooledAdapter:
    adapter = read_ancestor(state, SMALL)
    assert adapter is not None
    return adapter


def vector(pictures: int = 1) -> list[Tensor]:
    return [torch.randn(pictures, VISION, generator=torch.Generator().manual_seed(4))]


def run(adapter: PooledAdapter, **subject: float) -> Run:
    image, text = draw_inputs(dtype=torch.float32)
    rule = image_prompt_rule([prepare_reference(adapter, vector()).kvs], [Subject(**subject)])
    return JointModel(dtype=torch.float32)(image, text, rule)


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (SMALL.heads, SMALL.head_dim)).transpose(1, 2)


def test_xlabs_tokens_keys_and_values_are_the_linear_maps_of_its_file() -> None:
    adapter, (seen,) = read(XLABS), vector(2)
    rows = linear(seen, XLABS["ip_adapter_proj_model.proj.weight"], XLABS["ip_adapter_proj_model.proj.bias"])
    norm = [XLABS[f"ip_adapter_proj_model.norm.{part}"] for part in ("weight", "bias")]
    tokens = layer_norm(rows.view(2, TOKENS, WIDTH), (WIDTH,), *norm)
    torch.testing.assert_close(adapter.fuse([seen]).tokens, tokens)
    kv = adapter.kv(DOUBLE, tokens)
    for x, part in zip(kv.image, ("k", "v"), strict=True):
        key = f"double_blocks.1.processor.ip_adapter_double_stream_{part}_proj"
        torch.testing.assert_close(x, heads(linear(tokens, XLABS[f"{key}.weight"], XLABS[f"{key}.bias"])))
    assert kv.text is None
    assert (adapter.params.place, adapter.params.vision_output) == ("stream", "projected")


def test_instantx_tokens_keys_and_values_are_normed_maps_without_bias() -> None:
    adapter, (seen,) = read(INSTANTX), vector(2)
    project = [INSTANTX[f"image_proj.proj.{i}.{part}"] for i in (0, 2) for part in ("weight", "bias")]
    rows = linear(gelu(linear(seen, *project[:2])), *project[2:])
    norm = [INSTANTX[f"image_proj.norm.{part}"] for part in ("weight", "bias")]
    tokens = layer_norm(rows.view(2, TOKENS, WIDTH), (WIDTH,), *norm)
    torch.testing.assert_close(adapter.fuse([seen]).tokens, tokens)
    for number, block in ((1, DOUBLE), (4, SINGLE)):  # two double blocks stand before the single ones
        for x, part in zip(adapter.kv(block, tokens).image, ("k", "v"), strict=True):
            plain = heads(linear(tokens, INSTANTX[f"ip_adapter.{number}.to_{part}_ip.weight"]))
            torch.testing.assert_close(x, plain * (plain.square().mean(-1, keepdim=True) + 1e-5).rsqrt())
    assert (adapter.params.place, adapter.params.vision_output) == ("attention", "pooled")


def test_decoupling_instantx_masks_the_text_rows_of_single_blocks_alone() -> None:
    adapter = read(INSTANTX)
    tokens = adapter.fuse(vector()).tokens
    assert adapter.kv(DOUBLE, tokens).text is None and adapter.kv(SINGLE, tokens).text is not None
    coupled, decoupled = run(adapter, text_scale=1.0), run(adapter, text_scale=0.0)
    for block in SMALL.block_ids[:2]:
        assert torch.equal(coupled.attention[block], decoupled.attention[block])
    first_single, rows = SMALL.block_ids[2], coupled.rows
    assert torch.equal(coupled.attention[first_single][:, rows.image], decoupled.attention[first_single][:, rows.image])
    assert not torch.allclose(
        coupled.attention[first_single][:, rows.text], decoupled.attention[first_single][:, rows.text]
    )
    assert not torch.allclose(coupled.image, decoupled.image)


def test_the_text_scale_does_nothing_to_xlabs_and_the_scale_does() -> None:
    adapter = read(XLABS)
    assert torch.equal(run(adapter, text_scale=1.0).last, run(adapter).last)
    assert not torch.allclose(run(adapter, scale=0.5).last, run(adapter).last)


@pytest.mark.parametrize("tokens", [4, 16])
def test_xlabs_at_full_size_has_the_published_shapes(tokens: int) -> None:
    with torch.device("meta"):
        adapter = read_ancestor(xlabs_state(FLUX, 768, tokens, 4096))
        assert adapter is not None
        kv = adapter.kv(BlockId("double", 18), adapter.fuse([torch.empty(1, 768)]).tokens)
    assert kv.image[0].shape == (1, 24, tokens, 128)
    assert (adapter.params.family, len(adapter.params.block_ids), adapter.params.tokens) == ("flux", 19, tokens)


def test_instantx_at_full_size_has_the_published_shapes() -> None:
    with torch.device("meta"):
        adapter = read_ancestor(flat(instantx_state(FLUX, 1152, 128, 4096)))
        assert adapter is not None
        kv = adapter.kv(BlockId("single", 37), adapter.fuse([torch.empty(1, 1152)]).tokens)
    assert kv.image[0].shape == (1, 24, 128, 128)
    assert (adapter.params.family, len(adapter.params.block_ids), adapter.params.tokens) == ("flux", 57, 128)
    check_vision(adapter.params, 1152, 27)
    with pytest.raises(BadAdapter, match=r"one 1152 wide \(pooled vector\) was expected"):
        check_vision(adapter.params, 1024, 24)


def test_another_vector_and_level_weights_get_a_sentence() -> None:
    adapter = read(XLABS)
    with pytest.raises(BadModel, match=r"\[pictures 10\], was expected"):
        adapter.fuse([torch.zeros(1, 11)])
    with pytest.raises(BadModel, match="3 vision outputs"):
        adapter.fuse([torch.zeros(1, VISION)] * 3)
    with pytest.raises(BadSettings, match="granularity"):
        adapter.fuse(vector(), weights=(1.0, 0.0, 0.0))
    assert torch.equal(adapter.fuse(vector(), bias=(0.0,)).tokens, adapter.fuse(vector()).tokens)


@pytest.mark.parametrize("state", [XLABS, INSTANTX], ids=["xlabs", "instantx"])
def test_missing_foreign_and_misshapen_keys_get_a_sentence(state: dict[str, Tensor]) -> None:
    first = next(key for key in state if "proj.weight" in key or "proj.0.weight" in key)
    last = list(state)[-1]
    for bad in (
        {key: x for key, x in state.items() if key != first},
        {key: x for key, x in state.items() if key != last},
        {**state, "more": torch.ones(1)},
        {**state, last: torch.ones(3, 3)},
    ):
        with pytest.raises(BadAdapter, match="an IP-Adapter for FLUX came, but"):
            read_ancestor(bad, SMALL)


def test_keys_of_neither_are_nobodys() -> None:
    assert read_ancestor({"weight": torch.ones(1)}) is None


@pytest.mark.parametrize("state", [XLABS, instantx_state(SMALL, VISION, TOKENS, WIDTH)], ids=["flat", "nested"])
def test_a_converted_bin_holds_the_same_numbers(tmp_path: Path, state: dict[str, object]) -> None:
    torch.save(state, tmp_path / "ip-adapter.bin")
    params = convert_adapter(tmp_path / "ip-adapter.bin", tmp_path / "out.safetensors", SMALL)
    back, expected = load_file(tmp_path / "out.safetensors"), XLABS if state is XLABS else INSTANTX
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], expected[key]) for key in back)
    assert params.tokens == TOKENS


class Stranger:
    """Something that a pickle may hold and weights-only loading refuses."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image_proj": Stranger()}, "holds more than tensors"),
        ({"image_proj": [1, 2]}, "holds a list at image_proj"),
        ({"lora": torch.ones(1)}, "neither key names of XLabs nor of InstantX"),
        ({**XLABS, "ip_adapter_proj_model.norm.bias": torch.full((WIDTH,), float("nan"))}, "NaN"),
    ],
    ids=["code", "list", "foreign", "nan"],
)
def test_a_bin_that_holds_something_else_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "ip-adapter.bin")
    with pytest.raises(BadAdapter, match=message):
        convert_adapter(tmp_path / "ip-adapter.bin", tmp_path / "out.safetensors", SMALL)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_missing_or_damaged_bin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.bin").write_bytes(b"PK\x03\x04 no zip")
    for name, message in (("none.bin", "could not be read"), ("damaged.bin", "damaged")):
        with pytest.raises(BadAdapter, match=message):
            convert_adapter(tmp_path / name, tmp_path / "out.safetensors", SMALL)


def test_the_program_converts_and_the_loader_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dci_core.dynaip.ancestors.find_mmdit", lambda name: SMALL)
    source, out = tmp_path / "ip-adapter.bin", tmp_path / "out.safetensors"
    torch.save(instantx_state(SMALL, VISION, TOKENS, WIDTH), source)
    assert main(["adapter-convert", "--in", str(source), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["family"], told["blocks"], told["tokens"]) == ("tiny_flow", 6, TOKENS)
    adapter = load_adapter(out, family="tiny_flow")
    torch.testing.assert_close(adapter.fuse(vector()).tokens, read(INSTANTX).fuse(vector()).tokens)


def test_the_program_refuses_what_is_no_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"weight": torch.ones(1)}, tmp_path / "x.safetensors")
    words = ["adapter-convert", "--in", str(tmp_path / "x.safetensors"), "--out", str(tmp_path / "y.safetensors")]
    assert main(words) == 2
    assert "is a safetensors file already" in sentence(capsys)
    assert main([*words[:-1], str(tmp_path / "y.bin")]) == 2
    assert ".safetensors was expected" in sentence(capsys)
