"""What training takes on a card, counted in the host's own graph, and the presets that follow from it."""

from __future__ import annotations

from dataclasses import replace

import torch
from check_training import lesson
from lab import PACK
from marks import slow
from memory_count import count, text_of, text_step, unet_of, unet_step

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
        words, cost = count(text_step(text, name, 2), text), memory.cost_of(name)
        sizes = [sum(weight.nbytes for weight in network.parameters()) for network in (unet, text)]
        print("MEASURED", name, {"weights": sizes, "rows": rows, "text": words})
        for number, found in enumerate(rows, 1):
            assert 0.97 < number * cost.pixel * size_px**2 / found.recomputed < 1.05, found
        assert 0.97 < cost.text / words.recomputed < 1.15, words
        settings = PACK[f"{core}.settings"].IcoSettings(batch=4, precision="fp16", rank=rank)
        for card in memory.CARDS:
            split = memory.split_for(card, settings, name, widths, memory.Weights(*sizes), size_px)
            print("MEASURED", name, card, split)
            if (name, card) == ("sdxl", "8 GB"):
                counted = sizes[0] + memory.learned_bytes(widths, rank) + rows[1].recomputed
                assert split.text_on_cpu and split.batch == 1 and counted < 7 * 2**30, counted
                assert rows[1].whole + sizes[0] > 16 * 2**30  # kept for the backward pass it would need a large card


def test_a_preset_splits_the_batch_of_a_counted_family_and_leaves_others_alone() -> None:
    training, families = PACK["nodes.host.ico.training"], PACK["dci_core.families.table"]
    weights = PACK["dci_core.ico.memory"].Weights(int(4.78 * 2**30), int(1.52 * 2**30))
    settings = PACK["dci_core.ico.settings"].IcoSettings(batch=4, rank=32, precision="fp16")
    given = lesson(settings=settings, memory="8 GB")
    split = training.fitted(given, families.find_family("sdxl"), lambda: weights)
    assert (split.settings.batch, split.settings.accumulation, split.text_on_cpu) == (1, 4, True)
    for same, family in ((replace(given, memory="as set"), "sdxl"), (given, "tiny")):
        assert training.fitted(same, families.find_family(family), lambda: weights) is same


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
