"""What training takes on a card, counted in the host's own graph, and the presets that follow from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from check_text import refusal
from check_training import in_new_folder, lesson
from lab import PACK
from marks import slow
from memory_count import bytes_of, count, text_of, text_step, unet_of, unet_step

sys.path.append(str(Path(__file__).parents[2] / "core" / "ico"))
from base_sizes import BYTES

SIZES = {"sd15": 512, "sd21": 768, "sdxl": 1024}


@slow
def test_the_table_of_costs_is_what_the_graph_keeps_and_sdxl_fits_below_8_gib() -> None:
    """Prints what `docs/performance.md` shows."""
    memory, core = PACK["dci_core.ico.memory"], "dci_core.ico"
    for name, size_px in SIZES.items():
        with torch.inference_mode(False):
            unet, text = unet_of(name), text_of(name)
        widths = PACK[f"{core}.state"].family_widths(name)
        rank = PACK[f"{core}.rank"].choose_rank("auto", widths)
        rows = [count(unet_step(name, unet, size_px, number, rank), unet) for number in (1, 2)]
        words = [count(text_step(text, name, number), text, torch.float32) for number in (1, 2)]
        sizes, cost = [bytes_of(network) for network in (unet, text)], memory.cost_of(name)
        kept = {
            kind: [(found.count, found.recomputed) for found in each]
            for kind, each in (("rows", rows), ("text", words))
        }
        print("MEASURED", name, {"weights": sizes, **kept}, flush=True)
        assert BYTES[name] == tuple(sizes)
        for number, (row, text_pass) in enumerate(zip(rows, words, strict=True), 1):
            assert 1 <= number * cost.pixel * size_px**2 / row.recomputed < 1.05, row.recomputed
            assert 1 <= (cost.text + number * cost.text_row) / text_pass.recomputed < 1.05, text_pass.recomputed
        if name == "sdxl":
            assert sizes[0] + memory.learned_bytes(widths, rank) + rows[1].recomputed < 7 * 2**30


def test_a_preset_splits_the_batch_of_a_counted_family_and_leaves_others_alone() -> None:
    training, families = PACK["nodes.host.ico.training"], PACK["dci_core.families.table"]
    weights = PACK["dci_core.ico.memory"].Weights(int(4.78 * 2**30), int(1.52 * 2**30))
    settings = PACK["dci_core.ico.settings"].IcoSettings(batch=4, rank=32, precision="fp16")
    given, cpu = lesson(settings=settings, memory="8 GB"), torch.device("cpu")
    split = training.fitted(given, families.find_family("sdxl"), lambda: weights, cpu)
    batch, passes = split.settings.batch, split.settings.accumulation
    assert batch < 4 and batch * passes == 4 and split.text_on_cpu
    for same, family in ((replace(given, memory="as set"), "sdxl"), (given, "tiny")):
        assert training.fitted(same, families.find_family(family), lambda: weights, cpu) is same


@contextmanager
def device_of(gib: float) -> Iterator[None]:
    """Every device has so much memory, all of it free."""
    from comfy import model_management

    kept = model_management.get_total_memory, model_management.get_free_memory
    model_management.get_total_memory = model_management.get_free_memory = lambda *_, **__: int(gib * 2**30)
    try:
        yield
    finally:
        model_management.get_total_memory, model_management.get_free_memory = kept


def test_a_device_without_room_is_told_before_anything_is_loaded() -> None:
    training, row = PACK["nodes.host.ico.training"], PACK["dci_core.families.table"].find_family("flux")
    memory, live = PACK["dci_core.ico.memory"], PACK["nodes.host.page.live"]
    settings = PACK["dci_core.ico.settings"].IcoSettings(batch=4, rank=32, precision="bf16")
    given, (network, text) = lesson(settings=settings, size_px=1024), BYTES["flux"]
    weights = memory.Weights(network // 2, text, is_cast=True)
    for gib, words in ((20.0, ""), (24.0, "by count a step takes"), (80.0, "")):
        with device_of(gib), live.live_training("zorp fish") as told:
            if gib == 20.0:
                sentence = refusal(lambda: training.fitted(given, row, lambda: weights, torch.device("meta")))
                assert "MODEL and CLIP and what is learned take 20.3 GiB" in sentence, sentence
                assert "set memory to your card" in sentence
            else:
                assert training.fitted(given, row, lambda: weights, torch.device("meta")) is given
            assert words in " ".join(told.notes) and bool(told.notes) == bool(words), told.notes


def test_a_step_that_does_not_fit_with_its_blocks_computed_again_is_told_before_it() -> None:
    from check_flux_concepts import train as train_stream

    training, live = PACK["nodes.host.ico.training"], PACK["nodes.host.page.live"]
    kept, seen = training.is_short_of_memory, []

    def short(*parts: Any) -> bool:
        with device_of(seen[-1]):
            return bool(kept(*parts))

    def check(folder: Path) -> None:
        with live.live_training("zorp fish") as told:
            train_stream("z_image")
        assert any("a step takes about" in note and "are free" in note for note in told.notes) == (seen[-1] < 1)

    training.is_short_of_memory = short
    try:
        for gib in (0.001, 1000.0):
            seen.append(gib)
            in_new_folder(check)
    finally:
        training.is_short_of_memory = kept


def test_weights_that_ask_for_gradients_are_frozen_while_a_training_runs() -> None:
    with torch.inference_mode(False):
        network = torch.nn.Linear(4, 4)
    with PACK["nodes.host.ico.thaw"].open_to_gradients(network):
        assert not any(weight.requires_grad for weight in network.parameters())
    assert all(weight.requires_grad for weight in network.parameters())


def test_text_encoders_without_room_stay_on_the_cpu() -> None:
    from check_devices import CPU, DEVICE, parts_on
    from comfy.model_management import load_models_gpu

    residence = PACK["nodes.host.ico.residence"]
    with parts_on(DEVICE, DEVICE) as (model, clip, _):
        residence.load_whole(model, clip)
        assert {weight.device for weight in clip.patcher.model.parameters()} == {DEVICE}
        with residence.on_cpu(clip) as apart:
            residence.load_whole(model, apart)
            assert {weight.device for weight in apart.patcher.model.parameters()} == {CPU}
            assert {weight.device for weight in model.model.diffusion_model.parameters()} == {DEVICE}
            assert clip.patcher.load_device == DEVICE  # the user's own stays as it was
        load_models_gpu([clip.patcher])  # as the host's own nodes ask for it
        assert {weight.device for weight in clip.patcher.model.parameters()} == {DEVICE}


def test_a_training_whose_text_encoders_have_no_room_is_that_of_the_cpu() -> None:
    from check_devices import CPU, DEVICE, trained
    from check_training import same

    own, losses, _ = trained(CPU, CPU)
    apart, there, waits = trained(DEVICE, DEVICE, text_on_cpu=True)
    assert torch.allclose(torch.tensor(there), torch.tensor(losses), rtol=1e-3) and same(apart, own, 2e-2)
    assert waits <= 2, waits


def test_text_encoders_of_a_flow_are_off_the_card_in_every_step() -> None:
    from check_devices import CPU, DEVICE, trained
    from check_training import same
    from comfy import model_management

    training, seen = PACK["nodes.host.ico.training"], []
    kept = training.after_step

    def after_step(*args: Any, **kwargs: Any) -> None:
        held = [one for one in model_management.current_loaded_models if one.model is not None]
        seen.append({type(one.model.model).__name__: one.device.type for one in held})
        kept(*args, **kwargs)

    own, losses, _ = trained(CPU, CPU, is_flow=True)
    training.after_step = after_step
    try:
        apart, there, _ = trained(DEVICE, DEVICE, is_flow=True, text_on_cpu=True)
    finally:
        training.after_step = kept
    assert len(seen) == len(losses) and all(each["Flux"] == DEVICE.type for each in seen), seen
    assert all(DEVICE.type not in {held[name] for name in held if name != "Flux"} for held in seen), seen
    assert torch.allclose(torch.tensor(there), torch.tensor(losses), rtol=1e-3) and same(apart, own, 2e-2)
