"""SD 1.5 in its full size with random weights: loaded by the stock loader, trained, saved, loaded, sampled."""

from __future__ import annotations

from pathlib import Path

import torch
from check_training import in_new_folder, pictures
from check_vectors import checkpoint
from lab import PACK, counting_rows, distance
from marks import slow


@slow
def test_sd15_trains_saves_loads_and_samples() -> None:
    import nodes

    checkpoint()
    model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint("random_sd15.safetensors")
    settings = PACK["dci_core.ico_settings"].IcoSettings(steps=2, batch=1, learning_rate=1e-3, rank=4)
    lesson = PACK["nodes.host.training"].Lesson("dog", "zorp", settings, pictures()[:1], size_px=256, preview_every=0)

    def check(folder: Path) -> None:
        concept, losses = PACK["nodes.host.training"].train_concept(model, clip, vae, lesson)
        assert len(losses) == 2 and len(concept.deltas) == 16
        files, host = PACK["dci_core.concept_file"], PACK["nodes.host.concepts"]
        files.save_concept(concept, folder / "mine.safetensors")
        loaded = files.load_concept(PACK["nodes.host.folders"].concept_path("mine.safetensors"))
        own, knows = host.with_concept(model, clip, loaded, 1.0)
        nodes_of = nodes.NODE_CLASS_MAPPINGS
        words = {"concept": loaded, "prompt": "a zorp dog in the snow", "auxiliary_noun": "cat"}
        positive, plan, _ = nodes_of["DCIPromptPair"].execute(clip=knows, **words).args
        dci = {"window": 0.5, "strength": 1.0, "guidance": "shared", "gain": "scaled", "hints": "both"}
        patched, record = nodes_of["DCIApply"].execute(model=own, plan=plan, **dci).args
        patched, rows = counting_rows(patched)
        negative = nodes.CLIPTextEncode().encode(knows, "")[0]
        empty = nodes.EmptyLatentImage().generate(256, 256, 1)[0]
        out = nodes.KSampler().sample(patched, 7, 2, 2.0, "euler", "normal", positive, negative, empty)[0]["samples"]
        assert out.isfinite().all() and rows == [3, 2]
        assert len({layer for _, layer in record.weights}) == 16
        plain = nodes.KSampler().sample(model, 7, 2, 2.0, "euler", "normal", negative, negative, empty)[0]["samples"]
        assert distance(out, plain) > 1e-4
        assert torch.is_tensor(out)

    in_new_folder(check)
