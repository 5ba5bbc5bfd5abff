"""The tiny world in the host's classes on a pretend accelerator: CLIP on one device, MODEL on the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from check_flow_concepts import worlds as flow_worlds
from check_tiny import worlds
from check_training import in_new_folder, lesson, same
from lab import PACK, distance
from marks import slow

sys.path.append(str(Path(__file__).parents[2] / "core"))
from accelerator import CPU, DEVICE, Accelerator

STEPS = 3


@contextmanager
def parts_on(clip: torch.device, unet: torch.device, is_flow: bool = False) -> Iterator[tuple[Any, Any, Accelerator]]:
    """(MODEL, CLIP, accelerator): the tiny world or the tiny flow world, its parts to be loaded on these devices."""
    from comfy import model_management

    tiny, core = PACK["nodes.host.tiny.unet"], worlds()[0]
    flow, slots = PACK["nodes.host.tiny.flow"].host_flow, PACK["dci_core.tiny.flow.model"].SLOTS
    core = flow_worlds()[0].flow if is_flow else core
    free, device = model_management.get_free_memory, model_management.get_torch_device
    total = model_management.get_total_memory

    def free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
        if dev is not None and torch.device(dev).type == CPU.type:
            return free(dev, torch_free_too)
        return (2**36, 2**36) if torch_free_too else 2**36

    model_management.get_free_memory, model_management.get_total_memory = free_memory, lambda *_, **__: 2**36
    model = flow(core.mmdit) if is_flow else tiny.host_model(core)
    words = tiny.host_clip(core, slots) if is_flow else tiny.host_clip(core)
    model_management.unload_all_models()  # a text encoder is loaded where it is made
    model.load_device, words.patcher.load_device = unet, clip
    for patcher in (model, words.patcher):
        register = getattr(patcher, "register_load_device", None)
        if register is not None:
            register(patcher.load_device)
    try:
        with Accelerator() as accelerator:
            yield model, words, accelerator
            model_management.unload_all_models()
    finally:
        model_management.get_free_memory, model_management.get_torch_device = free, device
        model_management.get_total_memory = total


def trained(
    clip: torch.device, unet: torch.device, is_flow: bool = False, **given: Any
) -> tuple[Any, list[float], int]:
    """(concept, losses, most waits of a step after the first) of a short training; more of its lesson in `given`."""
    training, vae = PACK["nodes.host.ico.training"], PACK["nodes.host.tiny.unet"].host_vae
    counts: list[int] = []
    found: list[Any] = []

    def check(folder: Path) -> None:
        from check_training import codec

        with parts_on(clip, unet, is_flow) as (model, words, accelerator):
            kept = training.after_step

            def after_step(*args: Any, **kwargs: Any) -> None:
                told = accelerator.told()
                counts.append(accelerator.taken()[0])
                print("WAITS", clip, unet, counts[-1], told)
                kept(*args, **kwargs)
                accelerator.taken()

            def save_concept(*args: Any) -> None:
                accelerator.__exit__(None, None, None)  # safetensors reads memory past torch
                try:
                    kept_save(*args)
                finally:
                    accelerator.__enter__()

            kept_save, training.save_concept, training.after_step = training.save_concept, save_concept, after_step
            try:
                found.extend(
                    training.train_concept(model, words, vae(codec()), lesson(steps=STEPS, preview_every=1, **given))
                )
            finally:
                training.after_step, training.save_concept = kept, kept_save

    in_new_folder(check)
    return found[0], found[1], max(counts[1:])


@slow
def test_training_is_that_of_the_cpu_whichever_part_is_on_the_device() -> None:
    own, losses, _ = trained(CPU, CPU)
    for clip, unet in ((CPU, DEVICE), (DEVICE, CPU), (DEVICE, DEVICE)):
        concept, there, waits = trained(clip, unet)
        print("MEASURED", clip, unet, {"losses": distance(torch.tensor(there), torch.tensor(losses)), "waits": waits})
        assert distance(torch.tensor(there), torch.tensor(losses)) < 1e-3
        assert same(concept, own, 2e-2)
        assert waits <= (
            4 if unet == CPU else 2
        )  # with the U-Net on the CPU: one more for the pooled vector, one the host's
