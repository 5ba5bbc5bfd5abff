"""DCI Sweep: every cell is what the one-node sampler gives, from the same noise, on one sheet."""

from __future__ import annotations

from typing import Any

import torch
from check_nodes import dci, knowing, outputs, refused
from check_tiny import AUXILIARY, PROMPT, concept
from lab import PACK

HOW = {"seed": 7, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}


def parts(pictures: int = 1) -> dict[str, Any]:
    """What both samplers take."""
    import nodes

    model, clip = knowing()
    positive, plan, _ = outputs("DCIPromptPair", clip=clip, concept=concept(), prompt=PROMPT, auxiliary_noun=AUXILIARY)
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    latent = nodes.EmptyLatentImage().generate(128, 128, pictures)[0]
    return {"model": model, "plan": plan, "positive": positive, "negative": negative, "latent_image": latent, **HOW}


def vae() -> Any:
    """The tiny world's codec with random weights."""
    torch.manual_seed(0)
    return PACK["nodes.host.tiny.unet"].host_vae(PACK["dci_core.tiny.codec"].Codec())


def swept(given: dict[str, Any], windows: str = "0.3, 0.6", strengths: str = "0, 1", **more: Any) -> tuple[Any, ...]:
    """What the sweep gives."""
    rest = {name: value for name, value in dci().items() if name not in ("window", "strength")}
    own = {"vae": more.pop("vae", None) or vae(), "windows": windows, "strengths": strengths, "cell_px": 96}
    return outputs("DCISweep", **given, **rest, **own, **more)


def test_every_cell_is_the_samplers_and_the_first_is_plain() -> None:
    import nodes

    given, codec = parts(), vae()
    sheet, images, labels = swept(given, vae=codec)
    named = ["plain", *(f"window {w}, strength {s}" for s in (0, 1) for w in (0.3, 0.6))]
    assert labels.splitlines() == named and images.shape == (5, 128, 128, 3)
    settings = [(0.0, 1.0), (0.3, 0.0), (0.6, 0.0), (0.3, 1.0), (0.6, 1.0)]
    for picture, (window, strength) in zip(images, settings, strict=True):
        latent, *_ = outputs("DCIDualBranchSampler", **given, **dci(window=window, strength=strength))
        assert torch.equal(picture, nodes.VAEDecode().decode(codec, latent)[0][0])
    order = ("positive", "negative", "latent_image")
    stock = nodes.KSampler().sample(given["model"], *HOW.values(), *(given[name] for name in order))[0]
    assert torch.equal(images[0], nodes.VAEDecode().decode(codec, stock)[0][0])
    assert len({picture.numpy().tobytes() for picture in images}) == 5
    assert sheet.shape[0] == 1 and sheet.shape[3] == 3 and float(sheet.min()) >= 0 and float(sheet.max()) <= 1


def test_a_batch_gets_a_sheet_for_each_picture() -> None:
    sheet, images, labels = swept(parts(pictures=2), windows="0.5", strengths="1")
    assert sheet.shape[0] == 2 and images.shape[0] == 4 and len(labels.splitlines()) == 2
    assert not torch.equal(sheet[0], sheet[1])


def test_one_bar_runs_over_all_cells() -> None:
    import comfy.utils

    told: list[tuple[int, int]] = []
    before = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *rest, **more: told.append((value, total)))
    try:
        swept(parts())
    finally:
        comfy.utils.set_progress_bar_global_hook(before)
    values = [value for value, total in told if total == 20]
    assert {total for value, total in told if value} == {20} and values == sorted(values) and values[-1] == 20


def test_a_cancelled_sweep_stops_at_once_and_leaves_nothing() -> None:
    import comfy.model_management as management
    import comfy.utils

    given, seen = parts(), []
    before = comfy.utils.PROGRESS_BAR_HOOK

    def cancel(value: int, *rest: Any, **more: Any) -> None:
        seen.append(value)
        if value >= 6:  # in the second cell
            management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(cancel)
    try:
        swept(given)
    except management.InterruptProcessingException:
        pass
    else:
        raise AssertionError("the sweep went on")
    finally:
        comfy.utils.set_progress_bar_global_hook(before)
        management.interrupt_current_processing(False)
    # the host tells of some steps only, by its clock: the first that cancels is the last
    assert [value for value in seen if value >= 6] == seen[-1:] != [20]
    first, again = (swept(model)[1] for model in (given, parts()))
    assert torch.equal(first, again)
    assert not given["model"].model_options["transformer_options"].get("wrappers")


def test_lists_that_cannot_be_swept_get_one_sentence() -> None:
    given = parts()
    for windows, strengths, words in (
        ("0.1; 0.3", "1", "numbers with commas"),
        ("", "1", "the windows are"),
        ("0.1,,0.3", "1", "numbers with commas"),
        ("0, 0.3", "1", "plain is column one"),
        ("1.5", "1", "change 1.5"),
        ("0.3, 0.30", "1", "remove one 0.3"),
        ("0.3", "nan", "numbers with commas"),
        ("0.3", "11", "-10..10"),
        (", ".join(str(i / 20) for i in range(1, 15)), "1", "at most 12"),
    ):
        refused(words, lambda windows=windows, strengths=strengths: swept(given, windows, strengths))
