"""SD 1.5, SD 2.1 and SDXL in full size, random weights: loaded by the stock loader, trained, saved, loaded, sampled."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from check_training import in_new_folder, pictures
from fullsize import loaded_checkpoint
from lab import PACK, counting_rows, distance
from marks import slow


def lesson() -> Any:
    """Two short steps on one picture."""
    settings = PACK["dci_core.ico.settings"].IcoSettings(steps=2, batch=1, learning_rate=1e-3, rank=4)
    return PACK["nodes.host.ico.training"].Lesson("dog", "zorp", settings, pictures()[:1], size_px=128, preview_every=0)


def saved_and_loaded(concept: Any, folder: Path) -> Any:
    """The concept by way of its file."""
    PACK["dci_core.concept.file"].save_concept(concept, folder / "mine.safetensors")
    return PACK["dci_core.concept.file"].load_concept(PACK["nodes.host.folders"].concept_path("mine.safetensors"))


def two_steps(model: Any, clip: Any, concept: Any) -> tuple[Any, list[int], Any]:
    """(latent, rows of each call, record) of two steps with DCI at 256 px."""
    import nodes

    own, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept, 1.0)
    words = {"concept": concept, "prompt": "a zorp dog in the snow", "auxiliary_noun": "cat"}
    positive, plan, _ = nodes.NODE_CLASS_MAPPINGS["DCIPromptPair"].execute(clip=knows, **words).args
    dci = {"window": 0.5, "strength": 1.0, "guidance": "shared", "gain": "scaled", "hints": "both"}
    patched, record = nodes.NODE_CLASS_MAPPINGS["DCIApply"].execute(model=own, plan=plan, **dci).args
    patched, rows = counting_rows(patched)
    negative = nodes.CLIPTextEncode().encode(knows, "")[0]
    empty = nodes.EmptyLatentImage().generate(256, 256, 1)[0]
    out = nodes.KSampler().sample(patched, 7, 2, 2.0, "euler", "normal", positive, negative, empty)[0]
    return out["samples"], rows, record


def trains_saves_loads_and_samples(name: str, family: str, num_layers: int) -> None:
    """Asserts the whole way of a concept on a random checkpoint; says how much memory it took."""

    def check(folder: Path) -> None:
        with loaded_checkpoint(name) as (model, clip, vae):
            assert PACK["nodes.host.families.recognition"].family_of(model).name == family
            concept, losses = PACK["nodes.host.ico.training"].train_concept(model, clip, vae, lesson())
            assert len(losses) == 2 and len(concept.deltas) == num_layers
            out, rows, record = two_steps(model, clip, saved_and_loaded(concept, folder))
        print("MEASURED", {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20})
        assert out.isfinite().all() and rows == [3, 2]
        assert len({layer for _, layer in record.weights}) == num_layers
        assert all(0 < float(share.min()) < float(share.max()) < 1 for share in record.weights.values())
        assert distance(out, record.auxiliary) > 1e-2

    in_new_folder(check)
    forget_models()


def forget_models() -> None:
    """Frees what the host keeps loaded, before the next large model comes."""
    import comfy.model_management as management

    management.unload_all_models()
    management.cleanup_models()
    gc.collect()


@contextmanager
def bf16_unets() -> Iterator[None]:
    """U-Nets are loaded in bf16, as with the host's own --bf16-unet."""
    from comfy.cli_args import args

    kept, args.bf16_unet = args.bf16_unet, True
    try:
        yield
    finally:
        args.bf16_unet = kept


@slow
def test_sd15_trains_saves_loads_and_samples() -> None:
    trains_saves_loads_and_samples("sd15", "sd15", 16)


@slow
def test_sd21_with_v_prediction_trains_saves_loads_and_samples() -> None:
    trains_saves_loads_and_samples("sd21", "sd21", 16)


@slow
def test_sdxl_in_bf16_trains_saves_loads_and_samples() -> None:
    with bf16_unets():
        trains_saves_loads_and_samples("sdxl", "sdxl", 70)
    assert torch.get_default_dtype() == torch.float32
