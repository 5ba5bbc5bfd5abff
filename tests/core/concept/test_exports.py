"""Concepts in other formats, there and back, and concepts put into a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from dci_core.attention.layers import LayerId
from dci_core.concept.apply import apply_concept
from dci_core.concept.custom_diffusion import import_diffusers, import_original
from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.exports import export_embedding, export_lora, lora_name
from dci_core.concept.learned import Concept
from dci_core.errors import BadConcept
from dci_core.families.weight_names import diffusers_path, weight_key
from dci_core.text.captions import encode_captions

from ..toy_model import KV, LAYERS, WIDTH, ToyModel

MODEL = ToyModel.random()
BASE = MODEL.weights
SOURCE = torch.Generator().manual_seed(11)
WORDS = {"family": "tiny", "trigger": "sks", "noun": "fish"}


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=SOURCE) * 0.3


def made(
    rank: int | None = 2, trigger: str = "sks", layers: tuple[LayerId, ...] = LAYERS, family: str = "tiny"
) -> Concept:
    def delta() -> Delta:
        return Delta(noise(KV, WIDTH)) if rank is None else Delta(noise(KV, rank), noise(rank, WIDTH))

    deltas = {layer: LayerDelta(delta(), delta()) for layer in layers}
    return Concept(family, trigger, "fish", {"clip_l": noise(2, WIDTH)}, deltas)


def close(left: Mapping[str, Tensor], right: Mapping[str, Tensor], tolerance: float = 1e-5) -> bool:
    return left.keys() == right.keys() and all(torch.allclose(left[k], right[k], atol=tolerance) for k in left)


@pytest.mark.parametrize("rank", [2, None])
def test_a_lora_holds_the_same_changes(tmp_path: Path, rank: int | None) -> None:
    concept, path = made(rank), tmp_path / "lora.safetensors"
    error = export_lora(concept, path, rank=KV, precision="fp32")
    file = safetensors.torch.load_file(path)
    back = {}
    for layer in LAYERS:
        for part in "kv":
            name = lora_name("tiny", layer, part)
            up, down = file.pop(f"{name}.lora_up.weight"), file.pop(f"{name}.lora_down.weight")
            back[weight_key(layer, part)] = up @ down * (file.pop(f"{name}.alpha") / down.shape[0])
    assert file == {} and error < 1e-5
    assert close(back, concept.weights())


def test_a_short_lora_reports_what_it_lost(tmp_path: Path) -> None:
    assert export_lora(made(None), tmp_path / "lora.safetensors", rank=1) > 0.1


def test_lora_keys_are_spelled_as_the_familys_files_are() -> None:
    layer = LayerId("input", 1)
    ldm = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    assert lora_name("tiny", layer, "k") == lora_name("sdxl", layer, "k") == ldm
    assert lora_name("sd15", layer, "k") == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def test_an_embedding_file_holds_the_tokens(tmp_path: Path) -> None:
    concept = replace(made(), tokens={"clip_l": noise(2, 16), "clip_g": noise(2, 20)})
    export_embedding(concept, tmp_path / "sks.safetensors")
    assert close(safetensors.torch.load_file(tmp_path / "sks.safetensors"), concept.tokens, 0)


def whole_weights(concept: Concept) -> dict[str, Tensor]:
    """Custom Diffusion's files hold the weights themselves, not their changes."""
    return {key: BASE[key] + change for key, change in concept.weights().items()}


def diffusers_file(concept: Concept, path: Path) -> Path:
    weights = {}
    for layer in concept.deltas:
        for part in "kv":
            key = f"{diffusers_path(layer)}.processor.to_{part}_custom_diffusion.weight"
            weights[key] = whole_weights(concept)[weight_key(layer, part)]
    safetensors.torch.save_file(weights, path)
    return path


def embedding_files(concept: Concept, folder: Path) -> list[Path]:
    for i, row in enumerate(concept.tokens["clip_l"], 1):
        safetensors.torch.save_file({f"<new{i}>": row.clone()}, folder / f"new{i}.safetensors")
    return [folder / "new2.safetensors", folder / "new1.safetensors"]


def test_custom_diffusion_of_diffusers_comes_in(tmp_path: Path) -> None:
    concept = made(2)
    weights, rows = diffusers_file(concept, tmp_path / "w.safetensors"), embedding_files(concept, tmp_path)
    back = import_diffusers(weights, rows, BASE, **WORDS, rank=2)
    assert close(back.weights(), concept.weights(), 1e-3) and back.about.error < 1e-3  # stored in fp16
    assert torch.equal(back.tokens["clip_l"], concept.tokens["clip_l"]) and back.about.rank == 2


@pytest.mark.parametrize("form", ["whole", "compressed"])
def test_the_original_checkpoint_comes_in_with_weights_only_loading(tmp_path: Path, form: str) -> None:
    concept = made(2)
    state: dict[str, object] = {"embed": concept.tokens["clip_l"]}
    for layer in LAYERS:
        for part in "kv":
            key = weight_key(layer, part)
            delta = getattr(concept.deltas[layer], part)
            factors = {"u": delta.up, "v": delta.down}
            state[f"model.diffusion_model.{key}"] = factors if form == "compressed" else whole_weights(concept)[key]
    torch.save({"state_dict": state}, tmp_path / "delta.ckpt")
    back = import_original(tmp_path / "delta.ckpt", BASE, **WORDS, rank=2)
    assert close(back.weights(), concept.weights(), 1e-3)
    assert torch.equal(back.tokens["clip_l"], concept.tokens["clip_l"])


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_what_is_not_custom_diffusion_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    concept = made(2)
    path, rows = tmp_path / "w.safetensors", embedding_files(concept, tmp_path)
    good = safetensors.torch.load_file(diffusers_file(concept, path))
    query = next(iter(good)).replace("to_k", "to_q")
    for weights, words in (
        ({**good, query: torch.ones(KV, KV)}, "also changes"),
        ({k: torch.ones(3, 3) for k in good}, r"shape \(3, 3\); \(8, 16\)"),
        (dict(list(good.items())[:1]), "1 weights"),
        ({**good, next(iter(good)): torch.full((KV, WIDTH), torch.nan)}, "NaN"),
    ):
        safetensors.torch.save_file(weights, path)
        with pytest.raises(BadConcept, match=words):
            import_diffusers(path, rows, BASE, **WORDS)
    with pytest.raises(BadConcept, match="0 tokens"):
        import_diffusers(diffusers_file(concept, path), [], BASE, **WORDS)
    torch.save({"state_dict": {"embed": Harmful()}}, tmp_path / "bad.ckpt")
    with pytest.raises(BadConcept, match="more than tensors"):
        import_original(tmp_path / "bad.ckpt", BASE, **WORDS)
    assert "ran" not in capsys.readouterr().out


def picture(model: ToyModel, prompt: str) -> Tensor:
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return model.denoise(x, torch.ones(1), encode_captions(model, [prompt]))


def test_an_applied_concept_changes_a_copy_as_its_strength_says() -> None:
    concept = made()
    plain = picture(MODEL, "a fish")
    whole, half = apply_concept(MODEL, concept), apply_concept(MODEL, concept, 0.5)
    assert not torch.allclose(picture(whole, "a fish"), plain, atol=1e-3)
    key = weight_key(LAYERS[0], "k")
    assert torch.allclose(half.weights[key] - BASE[key], 0.5 * (whole.weights[key] - BASE[key]), atol=1e-6)
    assert torch.equal(picture(MODEL, "a fish"), plain)
    assert whole.weights["out"] is MODEL.weights["out"]


def test_strength_zero_keeps_every_bit_and_still_knows_the_trigger() -> None:
    none = apply_concept(MODEL, made(), 0.0)
    assert torch.equal(picture(none, "a fish"), picture(MODEL, "a fish"))
    assert not torch.equal(picture(none, "a sks fish"), picture(MODEL, "a sks fish"))
    assert len(none.encoders["clip_l"].tokenize("sks fish")) == 3


def test_concepts_chain_by_adding() -> None:
    one, two = made(), made(trigger="ohwx")
    both = apply_concept(apply_concept(MODEL, one), two)
    for key, change in one.weights().items():
        assert torch.allclose(both.weights[key], BASE[key] + change + two.weights()[key], atol=1e-6)
    ids = both.encoders["clip_l"].tokenize("sks ohwx")
    rows = torch.cat([one.tokens["clip_l"], two.tokens["clip_l"]])
    assert torch.equal(both.encoders["clip_l"].embed(torch.tensor(ids)), rows)


def test_a_concept_of_another_family_is_not_applied() -> None:
    with pytest.raises(BadConcept, match="is for sd15; tiny was expected"):
        apply_concept(MODEL, made(family="sd15"))
