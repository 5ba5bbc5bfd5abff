"""The nodes on the tiny flow world, by the executor: train, save, load, pair, layers, both forms of DCI, preview."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from check_flow_concepts import AUXILIARY, NOUN, PROMPT, worlds
from check_nodes import outputs
from check_training import codec, in_new_folder, pictures
from graphs import SEEN, SHELF, Graph, Queue, changed, node
from lab import PACK, distance

HOW = {"seed": 7, "steps": 6, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple"}


def give(name: str) -> dict[str, Any]:
    """A node that gives something of the shelf."""
    return {"class_type": "LabGive", "inputs": {"name": name}}


def keep(name: str, source: str, output: int = 0) -> dict[str, Any]:
    """A node that keeps what another one gives."""
    return {"class_type": "LabKeep", "inputs": {"name": name, "value": [source, output]}}


def drawing(model: list[Any], clip: list[Any], concept: list[Any]) -> Graph:
    """Pair, mask, both forms of DCI, the plain sampler and the preview."""
    pair = {"positive": ["pair", 0], "negative": ["negative", 0], "latent_image": ["empty", 0]}
    dci = {"guidance": "aligned", "window": 0.5, "layers": ["mask", 0]}
    return {
        "pair": node("DCIPromptPair", clip=clip, concept=concept, prompt=PROMPT, auxiliary_noun=AUXILIARY),
        "mask": node("DBIMLayerMask", preset="custom", text="double single0:0.5"),
        "negative": node("CLIPTextEncode", clip=clip, text=""),
        "empty": node("EmptyLatentImage", width=128, height=128),
        "one": node("DCIDualBranchSampler", model=model, plan=["pair", 1], **pair, **HOW, **dci),
        "apply": node("DCIApply", model=model, plan=["pair", 1], **dci),
        "stock": node("KSampler", model=["apply", 0], **pair, **HOW),
        "plain": node("KSampler", model=model, **pair, **HOW),
        "preview": node("DBIMPreview", record=["one", 2], latent=["one", 0], cell=16),
        **{f"kept {name}": keep(f"flow {name}", name) for name in ("one", "stock", "plain", "preview")},
    }


def test_a_flow_is_trained_saved_loaded_and_drawn_by_the_nodes() -> None:
    def check(folder: Path) -> None:
        _, model, clip = worlds()
        vae = PACK["nodes.host.tiny.unet"].host_vae(codec())
        SHELF.update(flow=model, flow_clip=clip, flow_vae=vae, flow_pictures=torch.stack(pictures()))
        learning = {"noun": NOUN, "trigger": "zorp", "steps": 3, "batch": 1, "preview_every": 1, "sample_every": 2}
        sources = {"base_model": "flow", "base_clip": "flow_clip", "vae": "flow_vae", "images": "flow_pictures"}
        graph = {name: give(what) for name, what in sources.items()}
        graph["train"] = node("ICOTrainConcept", **{name: [name, 0] for name in sources}, **learning)
        graph |= {"kept concept": keep("flow concept", "train", 2), "kept samples": keep("flow samples", "train", 5)}
        queue = Queue()
        assert queue.run({**graph, **drawing(["train", 0], ["train", 1], ["train", 2])}) is None
        concept, samples = SEEN["flow concept"][-1], SEEN["flow samples"][-1]
        one, stock, plain = (SEEN[f"flow {name}"][-1]["samples"] for name in ("one", "stock", "plain"))
        assert concept.family == "tiny_flow" and torch.equal(one, stock) and distance(one, plain) > 1e-4
        assert samples.shape[0] >= 1 and samples.isfinite().all() and one.isfinite().all()
        maps = SEEN["flow preview"][-1]
        assert maps.isfinite().all() and float(maps.max()) > 0
        # Saved, loaded by that name, trained on, and off
        (name,) = outputs("ICOSaveConcept", concept=concept, filename="a flow")
        loaded = outputs("ICOLoadConcept", base_model=model, base_clip=clip, concept_name=name, strength=1.0)
        SHELF.update(flow_knowing=loaded[0], flow_knows=loaded[1], flow_concept=loaded[2])
        again = {name: give(name) for name in ("flow_knowing", "flow_knows", "flow_concept")}
        again |= drawing(*([name, 0] for name in again))
        assert queue.run(again) is None
        assert distance(SEEN["flow one"][-1]["samples"], one) < 1e-3
        assert queue.run(changed(again, {"one.window": 0.0, "apply.window": 0.0})) is None
        off = [SEEN[f"flow {name}"][-1]["samples"] for name in ("one", "stock")]
        assert all(torch.equal(each, SEEN["flow plain"][-1]["samples"]) for each in off)
        graph["start"] = give("flow_concept")
        assert queue.run(changed(graph, {"train.start_from": ["start", 0], "train.sample_every": 0})) is None
        assert SEEN["flow concept"][-1].family == "tiny_flow"

    in_new_folder(check)
