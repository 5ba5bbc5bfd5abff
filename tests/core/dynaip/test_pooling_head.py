"""SigLIP's pooling head: the public class as oracle, its way into an InstantX adapter's file, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dci_core.attention.joint import BlockId
from dci_core.dynaip.adapter_file import check_vision, load_adapter
from dci_core.dynaip.ancestors import PooledAdapter, read_ancestor
from dci_core.dynaip.convert import convert_adapter
from dci_core.dynaip.pooling_head import HEAD_PREFIX, head_of, read_head
from dci_core.errors import BadAdapter, BadModel
from dci_core.families.mmdit import FAMILIES
from dci_core.program.main import main

from ..program_calls import sentence
from .ancestor_files import flat, instantx_state, siglip_file, siglip_head, xlabs_state

SMALL, FLUX = FAMILIES["tiny_flow"], FAMILIES["flux"]
VISION, INNER, TOKENS, WIDTH = 32, 40, 3, 14
HEAD = siglip_head(VISION, INNER, seed=5)
NESTED = instantx_state(SMALL, VISION, TOKENS, WIDTH)
PLAIN = flat(NESTED)
WHOLE = PLAIN | {f"{HEAD_PREFIX}{key}": x for key, x in HEAD.items()}


def states(pictures: int = 2) -> Tensor:
    return torch.randn(pictures, 7, VISION, generator=torch.Generator().manual_seed(4))


def pooled() -> Tensor:
    """The head's vector of `states`, computed where no gradient is asked, as adapters do."""
    return head_of(HEAD).requires_grad_(False)(states())


def read(state: dict[str, Tensor]) -> PooledAdapter:
    adapter = read_ancestor(state, SMALL)
    assert adapter is not None
    return adapter


@pytest.fixture
def siglip(tmp_path: Path) -> Path:
    save_file(siglip_file(HEAD), tmp_path / "siglip.safetensors")
    return tmp_path / "siglip.safetensors"


@pytest.fixture
def adapter_bin(tmp_path: Path) -> Path:
    torch.save(NESTED, tmp_path / "ip-adapter.bin")
    return tmp_path / "ip-adapter.bin"


def test_the_head_is_the_public_classes_head() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SiglipVisionConfig(
        hidden_size=128, intermediate_size=200, num_hidden_layers=2, num_attention_heads=16, image_size=32, patch_size=8
    )
    public = transformers.SiglipVisionModel(config).eval().requires_grad_(False)
    source = torch.Generator().manual_seed(1)
    for parameter in public.parameters():
        size = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0
        parameter.copy_(torch.randn(parameter.shape, generator=source) * size)
    seen = public(torch.randn(3, 3, 32, 32, generator=source))
    own = {key.rpartition("head.")[2]: x for key, x in public.state_dict().items() if "head." in key}
    found = head_of(own).eval()(seen.last_hidden_state)
    assert seen.pooler_output.std() > 0.1
    torch.testing.assert_close(found, seen.pooler_output, rtol=0, atol=1e-5)


def test_an_adapter_with_a_head_reads_what_the_head_makes_of_the_last_states() -> None:
    adapter, vector = read(WHOLE), pooled()
    assert vector.shape == (2, VISION)
    assert torch.equal(adapter.fuse([states()]).tokens, read(PLAIN).fuse([vector]).tokens)
    assert not torch.allclose(adapter.fuse([states()]).tokens, adapter.fuse([states() * 0.5]).tokens)
    assert (adapter.params.vision_output, read(PLAIN).params.vision_output) == ("tokens", "pooled")
    assert not any(parameter.requires_grad for parameter in adapter.parameters())


def test_head_and_adapter_each_compute_in_their_own_precision() -> None:
    half = {key: x if key.startswith(HEAD_PREFIX) else x.bfloat16() for key, x in WHOLE.items()}
    tokens = read(half).fuse([states()]).tokens
    assert tokens.dtype == torch.bfloat16
    assert torch.equal(tokens, read({key: x.bfloat16() for key, x in PLAIN.items()}).fuse([pooled()]).tokens)


def test_a_vector_is_refused_where_tokens_are_pooled() -> None:
    with pytest.raises(BadModel, match=r"one last SigLIP states, \[pictures tokens 32\], was expected"):
        read(WHOLE).fuse([torch.zeros(1, VISION)])


def test_full_size_shapes_are_so400ms() -> None:
    with torch.device("meta"):
        head = {f"{HEAD_PREFIX}{key}": x for key, x in siglip_head(1152, 4304).items()}
        adapter = read_ancestor(flat(instantx_state(FLUX, 1152, 128, 4096)) | head)
        assert adapter is not None and adapter.head is not None
        kv = adapter.kv(BlockId("single", 37), adapter.fuse([torch.empty(2, 729, 1152)]).tokens)
    assert kv.image[0].shape == (2, 24, 128, 128)
    assert sum(parameter.numel() for parameter in adapter.head.parameters()) == 15_238_352
    check_vision(adapter.params, 1152, 27)
    with pytest.raises(BadAdapter, match=r"one 1152 wide \(last SigLIP states\) was expected"):
        check_vision(adapter.params, 1024, 24)


@pytest.mark.parametrize("prefix", ["vision_model.", "siglip.vision_model.", ""])
def test_the_heads_tensors_alone_come_of_a_vision_file(tmp_path: Path, prefix: str) -> None:
    halves = {key: x.half() for key, x in HEAD.items()}
    save_file(siglip_file(halves, prefix), tmp_path / "siglip.safetensors")
    found = read_head(tmp_path / "siglip.safetensors")
    assert found.keys() == HEAD.keys()
    assert all(torch.equal(x, halves[key].float()) for key, x in found.items())


@pytest.mark.parametrize("form", ["nested", "flat", "safetensors", "another head"])
def test_a_head_goes_into_the_file_and_comes_back(tmp_path: Path, siglip: Path, form: str) -> None:
    path, out = tmp_path / "adapter.bin", tmp_path / "out.safetensors"
    if form in ("nested", "flat"):
        torch.save(NESTED if form == "nested" else PLAIN, path)
    else:
        path = path.with_suffix(".safetensors")
        save_file(PLAIN if form == "safetensors" else WHOLE | {f"{HEAD_PREFIX}probe": torch.ones(1, 1, VISION)}, path)
    assert convert_adapter(path, out, SMALL, vision=siglip).vision_output == "tokens"
    back = load_file(out)
    assert back.keys() == WHOLE.keys()
    assert all(torch.equal(x, WHOLE[key]) for key, x in back.items())


def test_a_file_may_take_a_head_in_place(tmp_path: Path, siglip: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    save_file(PLAIN, path)
    convert_adapter(path, path, SMALL, vision=siglip)
    assert load_file(path).keys() == WHOLE.keys()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"vision_model.post_layernorm.weight": torch.ones(3)}, "holds no pooling head"),
        (siglip_file({k: x for k, x in HEAD.items() if k != "mlp.fc2.bias"}), "lacks parts or has another form"),
        (siglip_file(HEAD | {"probe": torch.ones(1, 2, VISION)}), "lacks parts or has another form"),
        (siglip_file(siglip_head(24, INNER)), "lacks parts or has another form"),
        (siglip_file(HEAD | {"probe": torch.full((1, 1, VISION), torch.nan)}), "NaN or infinity in probe"),
        (siglip_file(siglip_head(48, INNER)), 'is 48 wide; one 32 wide is read by "ip-adapter.bin"'),
    ],
    ids=["none", "incomplete", "misshapen", "heads", "nan", "width"],
)
def test_a_vision_file_that_does_not_fit_gets_a_sentence(
    tmp_path: Path, adapter_bin: Path, tensors: dict[str, Tensor], message: str
) -> None:
    save_file(tensors, tmp_path / "vision.safetensors")
    with pytest.raises(BadAdapter, match=message):
        convert_adapter(adapter_bin, tmp_path / "out.safetensors", SMALL, vision=tmp_path / "vision.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_missing_or_pickled_vision_file_is_refused(tmp_path: Path, adapter_bin: Path) -> None:
    for name, message in (("none.safetensors", "could not be read"), ("ip-adapter.bin", "no safetensors file")):
        with pytest.raises(BadAdapter, match=message):
            convert_adapter(adapter_bin, tmp_path / "out.safetensors", SMALL, vision=tmp_path / name)


def test_xlabs_needs_no_head_and_a_strange_safetensors_takes_none(tmp_path: Path, siglip: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    for tensors, message in (
        (xlabs_state(SMALL, VISION, TOKENS, WIDTH), "which needs no pooling head"),
        ({"weight": torch.ones(1)}, "neither key names of XLabs nor of InstantX"),
    ):
        save_file(tensors, path)
        with pytest.raises(BadAdapter, match=message):
            convert_adapter(path, tmp_path / "out.safetensors", SMALL, vision=siglip)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{HEAD_PREFIX}probe": torch.ones(1, 1, 3)}, "lacks parts"),
        ({f"{HEAD_PREFIX}more": torch.ones(1)}, "lacks parts"),
        ({f"{HEAD_PREFIX}{k}": x for k, x in siglip_head(48, INNER).items()}, "is 48 wide and its projection 32"),
    ],
    ids=["misshapen", "unknown", "width"],
)
def test_an_adapters_file_with_a_head_that_does_not_fit_is_refused(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(BadAdapter, match=message):
        read(WHOLE | changes)
    with pytest.raises(BadAdapter, match="unknown keys"):
        read(xlabs_state(SMALL, VISION, TOKENS, WIDTH) | {f"{HEAD_PREFIX}probe": HEAD["probe"]})


@pytest.fixture
def told(adapter_bin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `adapter-convert` prints, given more words."""
    monkeypatch.setattr("dci_core.dynaip.ancestors.find_mmdit", lambda name: SMALL)
    words = ["adapter-convert", "--in", str(adapter_bin), "--out", str(adapter_bin.with_suffix(".safetensors"))]

    def run(*more: str) -> str:
        assert main([*words, *more]) == 0
        return capsys.readouterr().out

    return run


def test_the_program_says_that_a_head_is_missing_and_how_to_add_it(told: Any, tmp_path: Path) -> None:
    text, about = told(), json.loads(told("--json"))
    assert f"adapter-convert --in {tmp_path / 'ip-adapter.bin'} --vision SIGLIP --out" in text
    assert "ComfyUI cannot use it before" in text
    assert (about["for_comfyui"], about["vision"]) == (False, "pooled vector, 32 wide")
    assert about["do"] in text


def test_the_program_puts_a_head_in_and_the_loader_reads_it(told: Any, tmp_path: Path, siglip: Path) -> None:
    assert "tokens of the last SigLIP states, 32 wide" in told("--vision", str(siglip))
    about = json.loads(told("--vision", str(siglip), "--json"))
    assert about["for_comfyui"] and "do" not in about
    adapter = load_adapter(tmp_path / "ip-adapter.safetensors", family="tiny_flow")
    assert torch.equal(adapter.fuse([states()]).tokens, read(WHOLE).fuse([states()]).tokens)


def test_the_program_refuses_a_vision_file_without_a_head(
    tmp_path: Path, adapter_bin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"weight": torch.ones(1)}, tmp_path / "clip.safetensors")
    words = ["--in", str(adapter_bin), "--out", str(tmp_path / "x.safetensors")]
    assert main(["adapter-convert", *words, "--vision", str(tmp_path / "clip.safetensors")]) == 2
    assert sentence(capsys)
