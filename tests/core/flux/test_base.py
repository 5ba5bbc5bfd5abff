"""FLUX.1 as a base: opened from the published layout, computed as its parts say, trained on by the program."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from dci_core.dynaip.adapter import AdapterParams
from dci_core.dynaip.adapter_file import load_adapter
from dci_core.dynaip.training.lesson import TRAINED, reading_rule
from dci_core.dynaip.training.state import new_adapter
from dci_core.errors import BadModel
from dci_core.families.mmdit import FAMILIES
from dci_core.flux.base import FluxBase, log_shift, pixels_per_token
from dci_core.flux.folder import open_flux, read_transformer, sizes_of
from dci_core.flux.layers import FluxParams
from dci_core.flux.transformer import MMDiT
from dci_core.model import Text
from dci_core.program.main import main

from ..program_calls import sentence
from .thin_flux import PARAMS, SIDE, SMALL, THIN, WORDS, write_thin_flux

pytestmark = pytest.mark.usefixtures("fresh_accelerate")

CPU = torch.device("cpu")
PROMPTS = ["a red fish in the snow", "a cat"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_thin_flux(tmp_path_factory.mktemp("thin"))


@pytest.fixture(autouse=True)
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family of FLUX.1 in small, for this test alone."""
    monkeypatch.setitem(FAMILIES, "flux", THIN)  # type: ignore[arg-type]


def opened(folders: tuple[Path, Path], dtype: torch.dtype = torch.float32, **choices: float) -> FluxBase:
    return open_flux(*folders, CPU, dtype, size=SIDE, text_rows=12, **choices)  # type: ignore[arg-type]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sizes_follow_from_the_names_and_shapes_of_the_published_file() -> None:
    for params in (FluxParams(), FluxParams(guidance=False), PARAMS):
        with torch.device("meta"):
            model = MMDiT(params)
        assert sizes_of(model.state_dict()) == params
    with torch.device("meta"):
        whole = MMDiT(FluxParams())
    assert sum(p.numel() for p in whole.parameters()) == 11_901_408_320  # as published: "12 billion"


def test_parts_are_frozen_and_say_what_they_are(folders: tuple[Path, Path]) -> None:
    base = opened(folders)
    assert (base.family, base.size, base.cfg, base.vision) == ("flux", SIDE, 1.0, (16, 3))
    assert pixels_per_token(base.codec) == 4
    for part in (base.transformer, base.codec, base.text.clip, base.text.t5, base.tower):
        assert not any(p.requires_grad for p in part.parameters()) and not part.training
    assert base.fingerprint() == opened(folders).fingerprint()
    next(base.tower.parameters()).view(-1)[0] += 1
    assert base.fingerprint() != opened(folders).fingerprint()


@torch.no_grad()
def test_latents_are_the_codecs_own_shifted_and_scaled(folders: tuple[Path, Path]) -> None:
    base, pictures = opened(folders), torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    plain = base.codec.encode(pictures * 2 - 1).latent_dist.mean
    torch.testing.assert_close(base.latents(pictures), (plain - 0.1159) * 0.3611)
    decoded = base.codec.decode(plain).sample
    torch.testing.assert_close(base.pictures(base.latents(pictures)), (decoded / 2 + 0.5).clamp(0, 1))


@torch.no_grad()
def test_prompts_become_t5s_states_and_clips_vector(folders: tuple[Path, Path]) -> None:
    base = opened(folders)
    text = base.encode([*PROMPTS, "cat " * 200])
    assert text.hidden.shape == (3, 12, 24) and text.pooled is not None and text.pooled.shape == (3, 32)
    ids = torch.tensor([[WORDS.index(word) for word in PROMPTS[0].split()] + [1] + [0] * 5])
    torch.testing.assert_close(text.hidden[:1], base.text.t5(ids)[0])
    assert not torch.allclose(text.pooled[0], text.pooled[1])


@torch.no_grad()
def test_references_are_seen_as_transformers_prepares_them(folders: tuple[Path, Path]) -> None:
    from transformers import CLIPImageProcessor

    base, seen = opened(folders), torch.rand(3, 48, 40, generator=torch.Generator().manual_seed(3))
    bytes_ = (seen * 255).round().byte()
    process = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    pixels = process(images=Image.fromarray(bytes_.permute(1, 2, 0).numpy()), return_tensors="pt")["pixel_values"]
    expected = base.tower(pixel_values=pixels, output_hidden_states=True).hidden_states
    found = base.states(bytes_[None].float() / 255)
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()  # bicubic on bytes, there rounded once more


def test_times_are_shifted_with_the_number_of_tokens(folders: tuple[Path, Path]) -> None:
    assert log_shift(256) == 0.5 and math.isclose(log_shift(4096), 1.15)
    base = opened(folders)
    assert math.isclose(base.shift, math.exp(log_shift(64)))
    even = torch.linspace(0.01, 0.99, 99)
    times = base.times(even)
    assert bool((times.diff() > 0).all()) and float(times.min()) > 0 and float(times.max()) < 1
    assert math.isclose(float(times[49]), base.shift / (1 + base.shift), rel_tol=1e-5)  # the shifted middle
    schedule = base.schedule(4)
    assert (float(schedule[0]), float(schedule[-1])) == (1, 0) and bool((schedule.diff() < 0).all())


@torch.no_grad()
def test_the_model_is_told_its_guidance(folders: tuple[Path, Path]) -> None:
    base, x, t = opened(folders), noise(2, 4, 16, 16), torch.tensor([0.3, 0.8])
    text = base.encode(PROMPTS)
    assert text.pooled is not None
    own = base.transformer(x, t, text.hidden, text.pooled, guidance=torch.ones(2))
    assert torch.equal(base.velocity(x, t, text), own)
    assert not torch.allclose(opened(folders, guidance=3.5).velocity(x, t, text), own)


def adapter_gradients(base: FluxBase, *, recomputes: bool) -> dict[str, Tensor]:
    base.transformer.recomputes = recomputes
    sizes = {"token_width": 8, "expert_depth": 1, "expert_width": 8, "expert_heads": 2, "router_width": 4}
    adapter = new_adapter(AdapterParams("flux", 16, 3, levels=(1, 2), tokens=2, **sizes), 0)
    for name, parameter in adapter.named_parameters():
        if "to_v" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        text, states = base.encode(PROMPTS), base.states(torch.rand(2, 3, SIDE, SIDE).fill_(0.3))
    rule = reading_rule(adapter, states, TRAINED)
    base.velocity(noise(2, 4, 16, 16), torch.tensor([0.3, 0.8]), text, rule).square().mean().backward()
    return {name: p.grad for name, p in adapter.named_parameters() if p.grad is not None}


def test_recomputed_blocks_give_the_same_gradients(folders: tuple[Path, Path]) -> None:
    base = opened(folders)
    plain, again = (adapter_gradients(base, recomputes=is_on) for is_on in (False, True))
    assert plain.keys() == again.keys() and any(float(x.abs().max()) > 0 for x in plain.values())
    for name, x in plain.items():
        torch.testing.assert_close(again[name], x, msg=name)
    assert opened(folders).transformer.recomputes


@torch.no_grad()
def test_passes_run_in_the_weights_precision_inside_autocast_too(folders: tuple[Path, Path]) -> None:
    base, x, t = opened(folders, torch.bfloat16), noise(2, 4, 16, 16), torch.tensor([0.3, 0.8])
    seen: list[torch.dtype] = []
    base.transformer.double_blocks[0].register_forward_hook(lambda _, args, out: seen.append(out[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = base.velocity(x, t, base.encode(PROMPTS))
    fine = opened(folders).velocity(x, t, opened(folders).encode(PROMPTS))
    assert seen == [torch.bfloat16] and rough.dtype == torch.float32
    assert (rough - fine).norm() < 0.05 * fine.norm()


def pictures(folder: Path) -> Path:
    """Two subjects with two pictures each."""
    for s in range(2):
        for i in range(2):
            place = folder / f"subject {s}" / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (SIDE, SIDE), (90 * s, 120 * i, 40)).save(place)
            place.with_suffix(".txt").write_text(PROMPTS[i], encoding="utf-8")
    return folder


def command(folders: tuple[Path, Path], data: Path, out: Path, *more: str) -> list[str]:
    base = ["adapter-train", "--base", "flux", "--weights", str(folders[0]), "--vision", str(folders[1])]
    sizes = [
        "--size",
        str(SIDE),
        "--text-rows",
        "12",
        "--steps",
        "3",
        "--batch",
        "2",
        "--learning-rate",
        "0.01",
        *SMALL,
    ]
    return [*base, "--data", str(data), "--out", str(out), "--cpu", "--sheet-every", "0", *sizes, *more]


def test_the_program_trains_an_adapter_on_flux_and_goes_on_exactly(folders: tuple[Path, Path], tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    assert (
        main(command(folders, data, tmp_path / "whole.safetensors", "--precision", "fp32", "--sheet-every", "3")) == 0
    )
    adapter = load_adapter(tmp_path / "whole.safetensors", family="flux")
    params = adapter.params
    assert (params.vision_width, params.vision_layers, params.levels) == (16, 3, (1, 2, 3))
    assert any("to_v" in name and float(p.abs().max()) > 0 for name, p in adapter.named_parameters())
    with Image.open(tmp_path / "whole-step000003.png") as sheet:
        assert sheet.width > 600


def test_the_program_trains_in_bfloat16(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(command(folders, pictures(tmp_path / "data"), tmp_path / "a.safetensors", "--bf16")) == 0
    assert (tmp_path / "a.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--size", "30"], "multiple of 4 pixels"),
        (["--guidance", "0"], "numbers above 0"),
        (["--weights", "nowhere"], "is not there"),
        (["--vision", "nowhere"], "clip-vit-large-patch14"),
        (["--levels", "1", "9"], "rising levels within the vision model"),
        (["--data", "tiny-world"], "is painted at 128 px"),
    ],
)
def test_bad_choices_get_one_sentence(
    more: list[str], said: str, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(folders, pictures(tmp_path / "data"), tmp_path / "a.safetensors"), *more]) == 2
    assert said in sentence(capsys)


def test_folders_of_something_else_get_one_sentence(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(base: Path) -> str:
        assert main(command((base, folders[1]), pictures(tmp_path / "data"), tmp_path / "a.safetensors")) == 2
        return sentence(capsys)

    copy = Path(shutil.copytree(folders[0], tmp_path / "copy"))
    tensors = load_file(copy / "flux1-dev.safetensors")
    save_file({name: x for name, x in tensors.items() if "single_blocks.1" not in name}, copy / "flux1-dev.safetensors")
    assert "blocks {'double': 1, 'single': 1}" in said(copy)
    save_file({"img_in.weight": torch.zeros(2, 2)}, copy / "flux1-dev.safetensors")
    assert "does not hold FLUX.1's transformer" in said(copy)
    (copy / "flux1-dev.safetensors").write_bytes(b"no tensors")
    assert "cannot be read" in said(copy)
    shutil.copy(folders[0] / "flux1-dev.safetensors", copy)
    (copy / "vae" / "config.json").write_text("{", encoding="utf-8")
    assert '"vae" cannot be loaded' in said(copy)
    shutil.rmtree(copy / "text_encoder_2")
    assert 'there is no folder "text_encoder_2"' in said(copy)


@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_a_missing_library_gets_one_sentence(
    name: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadModel, match=f"{name} is not installed; trainings on FLUX.1 need it; install it with"):
        opened(folders)


def test_a_checkpoints_prefix_is_understood(folders: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = load_file(folders[0] / "flux1-dev.safetensors")
    save_file({f"model.diffusion_model.{name}": x for name, x in tensors.items()}, tmp_path / "flux1-x.safetensors")
    model = read_transformer(tmp_path / "flux1-x.safetensors", CPU, torch.float32)
    assert model.params == PARAMS
    assert all(torch.equal(x, tensors[name]) for name, x in model.state_dict().items())


def test_a_rule_reaches_every_block_of_the_transformer(folders: tuple[Path, Path]) -> None:
    base, seen = opened(folders), []
    text = Text(noise(1, 12, 24), noise(1, 32))
    with torch.no_grad():
        base.velocity(noise(1, 4, 16, 16), torch.ones(1), text, lambda call: seen.append((call.block, call.grid)))
    assert seen == [(block, (8, 8)) for block in THIN.block_ids]
