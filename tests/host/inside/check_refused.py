"""What cannot be trained with is refused before the first step: other U-Nets and VAEs, rates beyond fp32."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from check_graph import each_is_red, give, learning, shelf
from check_tiny import worlds
from check_training import codec, in_new_folder, pictures
from fullsize import COMMON, FOUR_LEVELS, KINDS
from graphs import SHELF, Queue, changed
from lab import PACK

SD2 = {**FOUR_LEVELS, "context_dim": 1024, "use_linear_in_transformer": True, "num_head_channels": 64}
VECTOR = {"num_classes": "sequential"}
STRANGE = {  # name -> (the host's configuration, sizes, words of the refusal)
    "inpainting": ("SD15", {**KINDS["sd15"].unet, "in_channels": 9}, "inpainting"),
    "inpainting of SDXL": ("SDXL", {**KINDS["sdxl"].unet, "in_channels": 9}, "inpainting"),
    "edits by words": ("SD15_instructpix2pix", {**KINDS["sd15"].unet, "in_channels": 8}, "reads 8 channels"),
    "edits by words, SDXL": ("SDXL_instructpix2pix", {**KINDS["sdxl"].unet, "in_channels": 8}, "reads 8 channels"),
    "reads a depth map": ("SD20", {**SD2, "adm_in_channels": None, "in_channels": 5}, "reads 5 channels"),
    "varies images, small": ("SD21UnclipL", {**SD2, "adm_in_channels": 1536, **VECTOR}, "vector of 1536"),
    "varies images": ("SD21UnclipH", {**SD2, "adm_in_channels": 2048, **VECTOR}, "vector of 2048"),
    "gives depth": ("LotusD", {**SD2, "adm_in_channels": 4}, "vector of 4"),
}


def shaped(config: str, sizes: dict[str, Any]) -> Any:
    """A MODEL of the host's own class for a checkpoint of these sizes, without memory for its weights."""
    from comfy import model_patcher, supported_models

    made = getattr(supported_models, config)({**COMMON, **sizes})
    made.set_inference_dtype(torch.float16, None)
    meta = torch.device("meta")
    return model_patcher.ModelPatcher(made.get_model({}, "", device=meta), load_device=meta, offload_device=meta)


def refusal(check: Any) -> str:
    """The sentence of the pack's error that this call raises; "" for none."""
    try:
        check()
    except PACK["dci_core.errors"].BadModel as error:
        return str(error)
    return ""


def test_unets_that_read_more_than_noise_and_text_are_refused_and_ordinary_ones_are_not() -> None:
    check, family_of = (
        PACK["nodes.host.ico.trainable"].check_reads_text,
        PACK["nodes.host.families.recognition"].family_of,
    )
    for name, (config, sizes, words) in STRANGE.items():
        model = shaped(config, sizes)
        told = refusal(partial(check, model, family_of(model)))
        assert words in told and told.count("; ") >= 2, (name, told)
    for name in ("sd15", "sd21", "sdxl"):
        model = shaped(KINDS[name].config, dict(KINDS[name].unet))
        assert refusal(partial(check, model, family_of(model))) == "", name
    assert refusal(partial(check, worlds()[1], family_of(worlds()[1]))) == ""


def widened() -> Any:
    """The tiny world as an inpainting model: its U-Net reads noise, mask and picture."""
    model = PACK["nodes.host.tiny.unet"].host_model(worlds()[0])
    model.model.diffusion_model.in_channels = 2 * 8 + 1
    return model


class OtherVae:
    """The tiny world's VAE, but for what is said otherwise: what it tells of itself, or what it gives."""

    def __init__(self, gives: Any = None, **tells: Any) -> None:
        self.vae = copy.copy(PACK["nodes.host.tiny.unet"].host_vae(codec()))
        self.gives = gives
        for name, value in tells.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vae, name)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = self.vae.encode(pixels)
        return latents if self.gives is None else self.gives(latents)


def with_a_hole(latents: torch.Tensor) -> torch.Tensor:
    """One number of them is none."""
    latents = latents.clone()
    latents[0, 0, 0, 0] = float("nan")
    return latents


def test_parts_that_do_not_belong_together_turn_the_node_red_before_the_first_step() -> None:
    shelf()
    SHELF.update(
        nothing=None,
        wide_unet=widened(),
        flux_vae=OtherVae(latent_channels=16),
        video_vae=OtherVae(latent_dim=3),
        half_vae=OtherVae(lambda x: x[..., ::2, ::2]),
        silent_vae=OtherVae(lambda x: torch.cat([x, x], dim=1)),
        nan_vae=OtherVae(with_a_hole),
        endless_vae=OtherVae(lambda x: x / 0.0),
        empty_vae=OtherVae(first_stage_model=None),
    )
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        name: ({f"{place}.name": name}, "train", words)
        for name, place, words in (
            ("wide_unet", "base_model", "reads 17 channels and gives 8, which is an inpainting model's"),
            ("nothing", "base_clip", "the checkpoint has no CLIP"),
            ("flux_vae", "vae", "the VAE has latents of 16 channels"),
            ("video_vae", "vae", "in 3 dimensions"),
            ("half_vae", "vae", "the VAE gives 8 x 4 x 4 numbers for a picture of 64 px"),
            ("silent_vae", "vae", "the VAE gives 16 x 8 x 8 numbers"),
            ("nan_vae", "vae", 'the VAE gave NaN or infinity for "picture 1"'),
            ("endless_vae", "vae", "the VAE gave NaN or infinity"),
            ("empty_vae", "vae", "the checkpoint has no VAE"),
        )
    }
    training = PACK["nodes.host.ico.training"]
    kept, begun = training.run_training, []

    def watched(*given: Any) -> Any:
        begun.append(given)
        return kept(*given)

    def check(folder: Path) -> None:
        training.run_training = watched
        try:
            each_is_red(learning(), cases)
        finally:
            training.run_training = kept
        assert len(begun) == 1  # the good one, with which the queue lives on

    in_new_folder(check)


def test_rates_that_fp32_cannot_hold_are_refused_in_one_sentence() -> None:
    shelf()
    one = {"train.learning_rate": 1.0}
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "by itself": ({"train.learning_rate": 1e6}, "train", "at most 1000 is expected"),
        "endless": ({"train.learning_rate": float("inf")}, "train", "learning rate is inf"),
        "by the batch": ({**one, "train.batch": 64, "train.accumulation": 256}, "train", "163840"),
        "by the contexts": ({**one, "train.context_factor": 1000.0, "train.batch": 2}, "train", "2000"),
        "by the rank": ({"train.learning_rate": 50.0, "train.rank": "4"}, "train", "1600"),
    }

    def check(folder: Path) -> None:
        each_is_red(learning(), cases)

    in_new_folder(check)


def test_one_picture_is_a_warning_on_the_node_and_four_are_none() -> None:
    shelf()
    SHELF["one_picture"] = torch.stack(pictures()[:1])

    def check(folder: Path) -> None:
        queue, told = Queue(), {}
        graph = {**learning(), "one": give("one_picture")}
        for name in ("one", "images"):
            assert queue.run(changed(graph, {"train.images": [name, 0]})) is None
            told[name] = queue.executor.history_result["outputs"]["train"]["ico_dci"][0]["warnings"]
        assert any("one picture" in line for line in told["one"]), told
        assert not any("one picture" in line for line in told["images"]), told

    in_new_folder(check)


def test_a_noun_that_the_tiny_world_has_never_seen_is_told_before_the_first_step() -> None:
    shelf()
    training, live = PACK["nodes.host.ico.training"], PACK["nodes.host.page.live"]
    seen: list[tuple[str, str]] = []

    def check(folder: Path) -> None:
        step, tell = training.after_step, live.events.tell
        training.after_step = lambda *args: seen.append(("step", "")) or step(*args)
        live.events.tell = lambda event, **facts: seen.append((event, str(facts.get("output", ""))))
        try:
            queue = Queue()
            assert queue.run(changed(learning(), {"train.noun": "dinosaur"})) is None
        finally:
            training.after_step, live.events.tell = step, tell
        told = [place for place, (event, text) in enumerate(seen) if event == "said" and "dinosaur" in text]
        assert told and told[0] < seen.index(("step", ""))
        warnings = queue.executor.history_result["outputs"]["train"]["ico_dci"][0]["warnings"]
        assert any('never seen the noun "dinosaur"' in line for line in warnings), warnings
        seen.clear()
        assert queue.run(changed(learning(), {"train.noun": "fish", "train.seed": 5})) is None
        assert not any("never seen" in text for _, text in seen)

    in_new_folder(check)
