"""Adapter files: what comes back is what was saved, and what does not fit is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dci_core.attention.joint import BlockId
from dci_core.dynaip.adapter_file import check_vision, load_adapter, read_training, save_adapter
from dci_core.errors import BadAdapter, NotSaved

from ..small_adapters import draw_states, small_params, trained

BLOCK = BlockId("double", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    save_adapter(trained(), path, precision="fp32", training={"steps": 7})
    return path


def rewrite(path: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: str) -> Path:
    with safe_open(path, "pt") as file:
        old = dict(file.metadata())
    save_file(load_file(path) if tensors is None else tensors, path, {**old, **metadata})
    return path


def test_an_adapter_comes_back_bit_for_bit(path: Path) -> None:
    back, adapter = load_adapter(path, family="tiny_flow"), trained()
    assert back.params == small_params()
    assert all(torch.equal(x, adapter.state_dict()[name]) for name, x in back.state_dict().items())
    tokens, again = adapter.fuse(draw_states()).tokens, back.fuse(draw_states()).tokens
    assert torch.equal(tokens, again)
    assert torch.equal(adapter.kv(BLOCK, tokens).text[1], back.kv(BLOCK, tokens).text[1])
    assert not any(parameter.requires_grad for parameter in back.parameters())
    assert read_training(path) == {"steps": 7}


@pytest.mark.parametrize(("precision", "size"), [("bf16", 2), ("fp16", 2), ("fp32", 4)])
def test_the_precision_is_the_files(tmp_path: Path, precision: str, size: int) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(trained(), path, precision=precision)
    back = load_adapter(path)
    count = sum(parameter.numel() for parameter in back.parameters())
    assert {parameter.element_size() for parameter in back.parameters()} == {size}
    assert path.stat().st_size == pytest.approx(size * count, abs=12_000)  # the header lists names
    torch.testing.assert_close(
        back.fuse(draw_states()).tokens.float(), trained().fuse(draw_states()).tokens, rtol=0.1, atol=0.1
    )


def test_the_file_tells_its_family_and_version_and_no_path(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["version"], metadata["family"]) == (
        "ico-dci image prompt adapter",
        "1",
        "tiny_flow",
    )
    assert str(path.parent) not in str(metadata)


def test_another_family_is_refused(path: Path) -> None:
    with pytest.raises(BadAdapter, match="is an adapter for tiny_flow; one for flux was expected"):
        load_adapter(path, family="flux")


@pytest.mark.parametrize(("version", "do"), [("2", "update the pack"), ("x", "save it again")])
def test_another_format_version_is_refused(path: Path, version: str, do: str) -> None:
    with pytest.raises(BadAdapter, match=f"format version '{version}'; version 1 was expected; {do}"):
        load_adapter(rewrite(path, version=version))


def test_parts_that_do_not_fit_their_metadata_are_refused(path: Path) -> None:
    tensors = load_file(path)
    for bad in (
        dict(list(tensors.items())[1:]),
        {**tensors, "more": torch.ones(1)},
        {k: x[..., :1].contiguous() for k, x in tensors.items()},
    ):
        with pytest.raises(BadAdapter, match="parts that do not fit together"):
            load_adapter(rewrite(path, bad))
    for about in ("{}", "no json", '{"family": "tiny_flow"}', "[]"):
        with pytest.raises(BadAdapter, match="parts that do not fit together"):
            load_adapter(rewrite(path, tensors, about=about))


def test_a_file_that_is_no_adapter_is_refused(path: Path) -> None:
    save_file({"lora_unet.up": torch.ones(1)}, path)
    with pytest.raises(BadAdapter, match="is no image prompt adapter"):
        load_adapter(path)


@pytest.mark.parametrize("key", ["model.diffusion_model.input_blocks.0.0.weight", "down_blocks.0.weight"])
def test_a_u_net_is_refused(path: Path, key: str) -> None:
    save_file({key: torch.ones(1)}, path)
    with pytest.raises(BadAdapter, match="is a U-Net or a checkpoint with one"):
        load_adapter(path)


def test_a_missing_cut_or_pickled_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])
    torch.save({"a": torch.ones(1)}, tmp_path / "adapter.bin")
    for file, message in (
        (path, "cut short"),
        (tmp_path / "none.safetensors", "could not be read"),
        (tmp_path / "adapter.bin", "adapter-convert"),
    ):
        with pytest.raises(BadAdapter, match=message):
            load_adapter(file)


def test_a_number_that_is_not_finite_is_refused_both_ways(path: Path, tmp_path: Path) -> None:
    adapter = trained()
    adapter.fusion.experts[0].queries[0, 0] = float("nan")
    with pytest.raises(BadAdapter, match="NaN or infinity in fusion.experts.0.queries"):
        save_adapter(adapter, tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()
    with pytest.raises(BadAdapter, match="NaN or infinity"):
        load_adapter(rewrite(path, adapter.state_dict()))


def test_a_vision_model_of_another_width_or_depth_is_refused() -> None:
    check_vision(small_params(), 12, 6)
    for width, layers in ((13, 6), (12, 7)):
        with pytest.raises(BadAdapter, match=f"{width} wide and {layers} layers deep; one 12 wide and 6 layers deep"):
            check_vision(small_params(), width, layers)


def test_a_save_that_fails_leaves_the_old_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(NotSaved, match="no room"):
        save_adapter(trained(1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSaved, match="'fp8'"):
        save_adapter(trained(), tmp_path / "adapter.safetensors", precision="fp8")
