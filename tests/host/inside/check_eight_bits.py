"""Training on thin transformers whose weights are fp8, as the host loads them: cast for each layer that computes."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import anima_lab
import flux_lab
import torch
from check_flux_concepts import lesson
from check_training import in_new_folder, same
from lab import PACK, distance

EIGHT = torch.float8_e4m3fn


def twins(model: Any) -> tuple[Any, Any]:
    """(a MODEL in fp8, one in fp32 of the very same numbers)."""
    from comfy.model_patcher import ModelPatcher

    found, cpu = [], torch.device("cpu")
    with torch.inference_mode(False), torch.no_grad():
        for is_small in (True, False):
            made = copy(model.model)
            made._modules = {**model.model._modules, "diffusion_model": deepcopy(model.model.diffusion_model)}
            layers = [module for module in made.diffusion_model.modules() if hasattr(module, "comfy_cast_weights")]
            for layer in layers:
                for name, weight in list(layer.named_parameters(recurse=False)):
                    rounded = weight.to(EIGHT)
                    own = rounded if is_small else rounded.float()
                    setattr(layer, name, torch.nn.Parameter(own, requires_grad=False))
                layer.comfy_cast_weights = is_small
            if is_small:
                made.diffusion_model.dtype, made.manual_cast_dtype = EIGHT, torch.float32
            found.append(ModelPatcher(made, load_device=cpu, offload_device=cpu))
    return found[0], found[1]


def learns_as_its_twin(model: Any, clip: Any, vae: Any) -> None:
    """Asserts that a base in fp8 learns what the same numbers in fp32 learn, blocks computed again or not."""
    training, results = PACK["nodes.host.ico.training"], []
    small, plain = twins(model)
    assert small.model.get_dtype() == EIGHT and plain.model.get_dtype() == torch.float32
    for base, again in ((plain, False), (small, False), (small, True)):

        def check(folder: Path, base: Any = base, again: bool = again) -> None:
            kept = training.is_short_of_memory
            training.is_short_of_memory = lambda *parts: again
            try:
                results.append(training.train_concept(base, clip, vae, replace(lesson(), rank=None)))
            finally:
                training.is_short_of_memory = kept

        in_new_folder(check)
    concept, losses = results[0]
    assert all(float(change.dense().norm()) > 0 for delta in concept.deltas.values() for change in delta)
    for other, there in results[1:]:
        assert distance(torch.tensor(there), torch.tensor(losses)) < 1e-4 and same(other, concept, 1e-2)


def test_flux_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*flux_lab.worlds("flux"))


def test_klein_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*flux_lab.worlds("klein"))


def test_z_image_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*flux_lab.worlds("z_image"))


def test_qwen_image_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*flux_lab.worlds("qwen_image"))


def test_krea2_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*flux_lab.worlds("krea2"))


def test_sd3_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*flux_lab.worlds("sd3"))


def test_anima_in_eight_bits_learns_as_its_twin() -> None:
    learns_as_its_twin(*anima_lab.worlds())
