"""Runs in a host's own Python: inside.py HOST PACK ACTION SECONDS. Prints `RESULT` with a list of figures or of times.

step   a U-Net call of the host with the rule in its attention slots against the same rows without
run_*  whole runs of the stock KSampler with Apply DCI against plain ones
apply  a concept put on MODEL and CLIP, and its weights patched
ours   seconds of each training step of ours, and the process's peak memory; lora: the same of the host's own node
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "host" / "inside"))
SIZE_PX, BATCH, RANK = 256, 2, 16
RUN_STEPS = 10  # three of them in a window of 0.3
TRAIN_STEPS = {"ours": 3, "lora": 2}
SD15_UNET = {
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
}


def sd15_model() -> Any:
    """A MODEL of SD 1.5's shape with random weights."""
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    import lab
    import torch

    config = comfy.supported_models.SD15({**lab.SMALL_UNET, **SD15_UNET})
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode(False), torch.no_grad():
        model = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
        fill(model.diffusion_model)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def sd15_clip() -> Any:
    """A CLIP of SD 1.5's shape with random weights."""
    import comfy.sd
    import comfy.sd1_clip
    import torch

    class Target:
        params: dict[str, Any] = {}
        clip, tokenizer = comfy.sd1_clip.SD1ClipModel, comfy.sd1_clip.SD1Tokenizer

    with torch.inference_mode(False), torch.no_grad():
        clip = comfy.sd.CLIP(Target)
        fill(clip.cond_stage_model)
    return clip


def fill(network: Any) -> None:
    """Random weights that keep activations near one."""
    import torch

    pattern = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            fan = weight[0].numel() if "embedding" not in name else 2500
            repeated = (pattern * fan**-0.5).repeat(-(-weight.numel() // len(pattern)))
            weight.copy_(repeated[: weight.numel()].view(weight.shape))
        else:
            weight.fill_(float(name.endswith("weight") and ("norm" in name or "_layers.0" in name or "out.0" in name)))


def step(bench: Any) -> list[dict[str, Any]]:
    """The rule through the host's attention slots."""
    import lab
    import torch

    from bench_cases.measure import side_by_side

    core, host = "dci_core", "nodes.host"
    model, made = sd15_model(), lab.plan(lab.text(1, width=768))
    family = lab.PACK[f"{core}.families.table"].find_family("sd15")
    dbim = lab.PACK[f"{core}.dci.branches"].DciSettings().dbim(family)
    rows = lab.PACK[f"{core}.dci.dbim"].BranchRows((1,), (2,))
    x = torch.randn(3, 4, SIZE_PX // 8, SIZE_PX // 8) * 12
    sigma, text = torch.full((3,), 12.0), torch.cat([lab.text(i, width=768) for i in range(3)])

    def call(is_ruled: bool) -> Any:
        options: dict[str, Any] = {}
        if is_ruled:
            rule = lab.PACK[f"{core}.dci.dbim"].dbim_rule(dbim, rows, made.tokens, x.device)
            options = lab.PACK[f"{host}.attention.cross"].with_rule(options, family.layers, rule)
        return model.model.apply_model(x, sigma, c_crossattn=text, transformer_options=options)

    what = f"SD 1.5's shape through the host, {SIZE_PX} px, 3 rows with DBIM in 16 layers against the same rows without"
    return [asdict(side_by_side(bench, "dbim_rule", lambda: call(True), lambda: call(False), what=what, target=1.03))]


def run(bench: Any, guidance: str, target: float) -> list[dict[str, Any]]:
    """The stock KSampler from noise to latent with Apply DCI, against the same run without; rows are counted."""
    import lab

    from bench_cases.measure import side_by_side

    latent = (1, 4, SIZE_PX // 8, SIZE_PX // 8)
    made, negative = lab.plan(lab.text(1, width=768)), lab.conditioning(lab.text(2, width=768))
    positive = lab.conditioning(lab.text(0, width=768), made)
    model, rows = lab.counting_rows(sd15_model())
    branched, _ = lab.apply(model, made, "sd15", window=0.3, guidance=guidance)
    spent: dict[bool, int] = {}

    def draw(is_ours: bool) -> Any:
        rows.clear()
        chosen = branched if is_ours else model
        picture = lab.sample(chosen, positive, negative, steps=RUN_STEPS, shape=latent)
        spent[is_ours] = sum(rows)
        return picture

    case, works = f"host_run_{guidance}", (partial(draw, True), partial(draw, False))
    what = f"SD 1.5's shape, the host's KSampler, {RUN_STEPS} steps, normal, {SIZE_PX} px, against plain"
    figure = asdict(side_by_side(bench, case, *works, what=what, target=target))
    return [{**figure, "what": f"{figure['what']}; {spent[True]} rows for {spent[False]}"}]


def apply(bench: Any) -> list[dict[str, Any]]:
    """A concept of rank 16 put in place, weights patched, and taken off again."""
    import lab
    import torch

    from bench_cases.measure import alone

    core = "dci_core"
    model, clip = sd15_model(), sd15_clip()
    family = lab.PACK[f"{core}.families.table"].find_family("sd15")
    delta, layer_delta = lab.PACK[f"{core}.concept.deltas"].Delta, lab.PACK[f"{core}.concept.deltas"].LayerDelta
    half = torch.float16
    deltas = {
        layer: layer_delta(*(
            delta(torch.randn(family.width(layer), RANK).to(half), torch.randn(RANK, 768).to(half) * 1e-3)
            for _ in range(2)
        ))
        for layer in family.layers
    }  # fmt: skip
    concept = lab.PACK[f"{core}.concept.learned"].Concept(
        "sd15", "zorp", "dog", {"clip_l": torch.randn(3, 768)}, deltas
    )

    def put() -> None:
        own, _ = lab.PACK["nodes.host.concept.apply"].with_concept(model, clip, concept, 1.0)
        for name in own.patches:  # what the host does with them when it loads the model
            own.patch_weight_to_device(name)
        own.unpatch_model()

    what = "SD 1.5's shape through the host: checked, trigger added, 32 weights patched and restored"
    return [asdict(alone(bench, "concept_apply", put, what=what, target=0.3))]


def ours(bench: Any) -> list[float]:
    """Seconds of each of our training steps."""
    import lab
    import torch

    model, clip = sd15_model(), sd15_clip()
    core, host = "dci_core", "nodes.host"
    settings = lab.PACK[f"{core}.ico.settings"].IcoSettings(steps=TRAIN_STEPS["ours"], batch=BATCH, prior="none")
    data = lab.PACK[f"{core}.ico.data"].TrainingData(torch.randn(4, 2, 4, SIZE_PX // 8, SIZE_PX // 8))
    family = lab.PACK[f"{core}.families.table"].find_family("sd15")
    adapter = lab.PACK[f"{host}.ico.model"].HostModel(model, clip, family)
    times: list[float] = []
    thaw, training = lab.PACK[f"{host}.ico.thaw"], lab.PACK[f"{host}.ico.training"]
    with training.loaded(model, clip), thaw.open_to_gradients(model.model.diffusion_model, clip.cond_stage_model):
        begin = lab.PACK[f"{core}.ico.state"].begin_training
        state = begin(adapter, data, settings, noun="dog", widths=adapter.kv_shapes())
        for report in lab.PACK[f"{core}.ico.train"].train_steps(adapter, data, state, sigmas=adapter.sigmas()):
            times.append(report.seconds)
    return times


def lora(bench: Any) -> list[float]:
    """Seconds of each step of the host's own LoRA training; the first counts what comes before it."""
    import comfy_extras.nodes_train as nodes_train
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    model, node = sd15_model(), nodes_train.TrainLoraNode
    model.cached_patcher_init = (lambda **_: sd15_model(), ())  # newer hosts load the checkpoint once more for a copy
    latents, positive = {"samples": torch.randn(4, 4, SIZE_PX // 8, SIZE_PX // 8)}, [[torch.randn(1, 77, 768), {}]]
    chosen = {
        "model": model, "latents": latents, "positive": positive, "batch_size": BATCH, "steps": TRAIN_STEPS["lora"],
        "rank": RANK, "training_dtype": "fp32", "lora_dtype": "fp32", "existing_lora": "[None]",
    }  # fmt: skip
    ends = [time.perf_counter()]
    watch = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    try:
        if hasattr(node, "define_schema"):  # takes every input as a list
            usual = {schema.id: getattr(schema, "default", None) for schema in node.define_schema().inputs}
            node.execute(**{name: [value] for name, value in {**usual, **chosen}.items()})
        else:
            asked = node.INPUT_TYPES()["required"]
            usual = {name: spec[1].get("default") for name, spec in asked.items() if len(spec) > 1}
            node().train(**{**usual, **chosen})
    finally:
        watch.remove()
    return [after - before for before, after in zip(ends[:-1], ends[1:], strict=True)]


ACTIONS: dict[str, Callable[[Any], Any]] = {
    "run_shared": partial(run, guidance="shared", target=1.17),
    "run_separate": partial(run, guidance="separate", target=1.33),
    "step": step,
    "apply": apply,
    "ours": ours,
    "lora": lora,
}


def main(host: str, pack: str, action: str, seconds: str) -> None:
    """Does one thing in this host and prints what it took."""
    import run

    run.start_host(host)
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sys.path.append(str(HERE.parent / "host" / "inside"))
    sys.path.append(str(HERE.parent))
    import lab

    from bench_cases.measure import Bench

    lab.PACK = run.Pack(run.load_pack(pack))
    with torch.inference_mode():
        found = ACTIONS[action](Bench(torch.device("cpu"), torch.float32, float(seconds)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("RESULT", json.dumps({"found": found, "peak": peak}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
