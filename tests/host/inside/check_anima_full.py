"""Anima in full size with random weights in bf16: trained, saved, loaded, drawn with DCI in all of its blocks."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import torch
from anima_lab import NETWORK, thin_vae
from check_fullsize import forget_models, saved_and_loaded
from check_training import in_new_folder, pictures
from lab import PACK, sample
from marks import Absent, slow
from torch import Tensor

SIZES = {**NETWORK, "model_channels": 2048, "num_heads": 16, "num_blocks": 28, "adaln_lora_dim": 256}


def filled(network: Any, numbers: Tensor) -> None:
    """Numbers over again in every matrix, so scaled that a signal keeps its size; norms of one."""
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(float(name.endswith("weight")))
            continue
        scale = 1.0 if parameter.shape[0] > 30000 else 0.7 * parameter[0].numel() ** -0.5
        mine = (numbers * scale).to(parameter.dtype)
        for part in parameter.view(-1).split(len(mine)):
            part.copy_(mine[: len(part)])


def full_anima() -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE); the codec is a thin one, since it is not what is tried."""
    try:
        from comfy.text_encoders import anima
    except ImportError as error:
        raise Absent("this ComfyUI has no Anima") from error
    from types import SimpleNamespace

    from comfy import model_base, model_patcher, sd, supported_models

    config = supported_models.Anima(dict(SIZES))
    config.set_inference_dtype(torch.bfloat16, None)
    numbers, cpu = torch.randn(2**22 - 3, generator=torch.Generator().manual_seed(0)), torch.device("cpu")
    with torch.inference_mode(False), torch.no_grad():
        model = model_base.Anima(config, device=cpu)
        filled(model.diffusion_model, numbers)
        target = SimpleNamespace(params={}, clip=anima.te(), tokenizer=anima.AnimaTokenizer)
        clip = sd.CLIP(target, model_options={"dtype": torch.bfloat16})
        filled(clip.cond_stage_model, numbers)
        vae = thin_vae()
    return model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu), clip, vae


@slow
def test_anima_in_bf16_trains_saves_loads_and_draws_in_28_of_28_blocks() -> None:
    def check(folder: Path) -> None:
        model, clip, vae = full_anima()
        row = PACK["nodes.host.families.recognition"].family_of(model)
        settings = PACK["dci_core.ico.settings"].IcoSettings(steps=2, batch=1, learning_rate=1e-3, rank=16)
        training = PACK["nodes.host.ico.training"]
        lesson = training.Lesson(
            "fish", "zorp", settings, pictures()[:1], size_px=64, preview_every=0, precision="bf16"
        )
        made, losses = training.train_concept(model, clip, vae, lesson)
        assert row.name == made.family == "anima" and len(losses) == 2 and len(made.deltas) == 28
        assert all(float(delta.k.dense().norm()) > 0 for delta in made.deltas.values())
        concept = saved_and_loaded(made, folder)
        own, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept, 1.0)
        positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(knows, concept, "a zorp fish in the snow", "house")
        negative = knows.encode_from_tokens_scheduled(knows.tokenize(""))
        dci = PACK["dci_core.dci.branches"].DciSettings(window=0.5, guidance="aligned")
        patch = PACK["nodes.host.dci.plan"].DciPatch(plan, dci, dci.dbim(row))
        patched, record = PACK["nodes.host.dci.branching"].with_dci(own, patch)
        out = sample(patched, positive, negative, steps=2, cfg=4.0, shape=(1, 16, 1, 8, 8), scheduler="simple")
        print("MEASURED", {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20})
        assert out.isfinite().all() and len({layer for _, layer in record.weights}) == 28

    in_new_folder(check)
    forget_models()
