"""Training in the host against the core's own, and what it leaves behind: nothing but its files."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from check_tiny import worlds
from lab import PACK, distance, sample

STEPS = 20


@cache
def codec() -> Any:
    """A codec of random weights."""
    return PACK["dci_core.tiny.codec"].Codec().eval().requires_grad_(False)


@cache
def pictures() -> list[Any]:
    """Three random pictures of flat patches [128 128 3], as the tiny world has them."""
    source = torch.Generator().manual_seed(8)
    small = torch.rand(3, 3, 8, 8, generator=source)
    large = torch.nn.functional.interpolate(small, size=128, mode="nearest").permute(0, 2, 3, 1)
    return [(picture * 255).round() / 255 for picture in large]


def lesson(steps: int = STEPS, **changes: Any) -> Any:
    """A short training with a rate that shows."""
    settings = PACK["dci_core.ico.settings"].IcoSettings(steps=steps, learning_rate=1e-3, modifier_tokens=2)
    made = PACK["nodes.host.ico.training"].Lesson("fish", "zorp", settings, pictures(), keep_rank=None, preview_every=0)
    return replace(made, **changes)


def in_new_folder(check: Callable[[Path], None]) -> None:
    """Runs a check with models/ico_concepts in an empty folder, and the host's output in another."""
    import folder_paths

    name = PACK["nodes.host.folders"].FOLDER
    before, output = folder_paths.folder_names_and_paths.get(name), folder_paths.get_output_directory()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as drawn:
        folder_paths.folder_names_and_paths[name] = ([folder], {".safetensors"})
        folder_paths.set_output_directory(drawn)
        try:
            check(Path(folder))
        finally:
            folder_paths.set_output_directory(output)
            folder_paths.folder_names_and_paths.pop(name)
            folder_paths.filename_list_cache.pop(name, None)
            if before is not None:
                folder_paths.folder_names_and_paths[name] = before


def train(chosen: Any) -> tuple[Any, list[float]]:
    """What the node's work gives."""
    _, model, clip = worlds()
    return PACK["nodes.host.ico.training"].train_concept(
        model, clip, PACK["nodes.host.tiny.unet"].host_vae(codec()), chosen
    )


def same(one: Any, other: Any, limit: float = 0.0) -> bool:
    """Whether two concepts have the same tokens and changes, to a relative limit."""
    pairs = [(one.tokens[name], other.tokens[name]) for name in one.tokens]
    for layer, delta in one.deltas.items():
        pairs += [(a.dense(), b.dense()) for a, b in zip(delta, other.deltas[layer], strict=True)]
    return all(distance(a.float(), b.float()) <= limit for a, b in pairs)


def test_twenty_steps_in_the_host_are_twenty_steps_in_the_core() -> None:
    def check(folder: Path) -> None:
        core, _, _ = worlds()
        concept, losses = train(lesson())
        state_of, ico = PACK["dci_core.ico.state"], PACK["dci_core.ico.train"]
        data_of, pictures_of = PACK["dci_core.ico.data"], PACK["dci_core.pictures.reference"]
        rare = [core.encoders["clip_l"].tokenize(w)[0] for w in PACK["dci_core.tiny.world.words"].RARE_WORDS]
        data = data_of.encode_pictures([pictures_of.make_picture(p, 128) for p in pictures()], codec().encode)
        with torch.inference_mode(False), torch.enable_grad():
            own = PACK["dci_core.tiny.model"].TinyModel(ordinary(core.text), ordinary(core.unet))
            data = replace(data, latents=data.latents.clone())
            state = state_of.begin_training(own, data, lesson().settings, noun="fish", rare_tokens={"clip_l": rare})
            for _ in ico.train_steps(own, data, state):
                pass
        mine = PACK["dci_core.ico.result"].make_concept(state, trigger="zorp", rank=None)
        print("MEASURED", {"losses": distance(torch.tensor(losses), torch.tensor(state.losses))})
        assert distance(torch.tensor(losses), torch.tensor(state.losses)) < 1e-3
        assert same(concept, mine, 1e-3)
        assert any(float(delta.k.dense().norm()) > 0 for delta in concept.deltas.values())

    in_new_folder(check)


def ordinary(part: Any) -> Any:
    """A copy of a module whose tensors are ordinary ones."""
    memo: dict[int, Any] = {id(x): torch.nn.Parameter(x.clone(), requires_grad=False) for x in part.parameters()}
    memo |= {id(x): x.clone() for x in part.buffers()}
    return copy.deepcopy(part, memo)


def test_a_second_training_of_the_same_is_read_from_disk() -> None:
    def check(folder: Path) -> None:
        first, losses = train(lesson(steps=3))
        training = PACK["nodes.host.ico.training"]
        kept, training.run_training = training.run_training, None
        try:
            second, again = train(lesson(steps=3))
        finally:
            training.run_training = kept
        assert same(first, second) and losses == again
        assert len(list(folder.rglob("*.safetensors"))) == 1
        train(lesson(steps=3, noun="house"))
        assert len(list(folder.rglob("*.safetensors"))) == 2

    in_new_folder(check)


def test_a_trained_concept_has_a_picture_drawn_from_noise_and_a_date() -> None:
    def check(folder: Path) -> None:
        import io

        from PIL import Image

        concept, _ = train(lesson(steps=2))
        (file,) = folder.rglob("*.safetensors")
        kept = PACK["dci_core.concept.file"].load_concept(file)
        assert kept.cover == concept.cover and kept.cover.date
        with Image.open(io.BytesIO(kept.cover.picture)) as picture:
            assert picture.size == (128, 128)
        samples, covers = PACK["dci_core.ico.samples"], PACK["nodes.host.ico.covers"]
        before = covers.draw_sample

        def fails(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("out of memory")

        covers.draw_sample = fails
        try:
            other, _ = train(lesson(steps=2, noun="house"))
        finally:
            covers.draw_sample = before
        assert other.cover.picture is None and other.cover.date and samples.SAMPLING.num_steps < 20

    in_new_folder(check)


def test_a_cancelled_training_goes_on_where_it_was() -> None:
    def check(folder: Path) -> None:
        import comfy.model_management as management

        straight, losses = train(lesson(steps=6))
        training = PACK["nodes.host.ico.training"]
        for file in folder.rglob("zorp*"):
            file.unlink()
        kept = training.after_step

        def cancel(reports: Any, *args: Any) -> None:
            kept(reports, *args)
            if reports[-1].step == 2:
                management.interrupt_current_processing()
                management.throw_exception_if_processing_interrupted()

        training.after_step = cancel
        try:
            train(lesson(steps=6))
        except management.InterruptProcessingException:
            pass
        else:
            raise AssertionError("not cancelled")
        finally:
            training.after_step = kept
        assert [file.suffix for file in folder.rglob("zorp*")] == [".training"]
        resumed, again = train(lesson(steps=6))
        assert losses == again and same(straight, resumed)
        assert len(list(folder.rglob("*.training"))) == 1  # more steps can go on from it

    in_new_folder(check)


def test_training_leaves_nothing_on_the_model() -> None:
    def check(folder: Path) -> None:
        import comfy.model_management as management

        _, model, clip = worlds()
        words = clip.encode_from_tokens_scheduled(clip.tokenize("a fish"))
        before = sample(model, words, words, steps=3, shape=(1, 8, 16, 16))
        weights = [id(p) for p in model.model.diffusion_model.parameters()]
        train(lesson(steps=2))
        assert [id(p) for p in model.model.diffusion_model.parameters()] == weights
        assert not any("forward" in vars(module) for module in clip.cond_stage_model.modules())
        assert not getattr(management, "in_training", False)
        again = clip.encode_from_tokens_scheduled(clip.tokenize("a fish"))
        assert torch.equal(again[0][0], words[0][0])
        assert torch.equal(sample(model, words, words, steps=3, shape=(1, 8, 16, 16)), before)

    in_new_folder(check)


def test_a_saved_concept_draws_what_the_trained_one_draws() -> None:
    def check(folder: Path) -> None:
        concept, _ = train(lesson(steps=4))
        files = PACK["dci_core.concept.file"]
        files.save_concept(concept, folder / "mine.safetensors")
        loaded = files.load_concept(PACK["nodes.host.folders"].concept_path("mine.safetensors"))
        _, model, clip = worlds()
        drawn = []
        for each in (concept, loaded):
            own, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, each, 1.0)
            words = knows.encode_from_tokens_scheduled(knows.tokenize("a zorp fish in the snow"))
            drawn.append(sample(own, words, words, steps=3, shape=(1, 8, 16, 16)))
        plain = clip.encode_from_tokens_scheduled(clip.tokenize("a fish in the snow"))
        assert torch.equal(*drawn)
        assert distance(drawn[0], sample(model, plain, plain, steps=3, shape=(1, 8, 16, 16))) > 1e-3

    in_new_folder(check)


def test_pictures_are_shown_while_it_learns_whatever_the_samplers_show() -> None:
    def check(folder: Path) -> None:
        import comfy.utils

        shown: list[Any] = []
        kept = comfy.utils.ProgressBar.update_absolute

        def see(self: Any, value: int, total: int | None = None, preview: Any = None) -> None:
            shown.append((value, total, preview))
            kept(self, value, total, preview)

        tiny, (_, model, _) = PACK["nodes.host.tiny.unet"], worlds()
        tiny.give_previews(model, codec())
        comfy.utils.ProgressBar.update_absolute = see
        try:
            train(lesson(steps=4, preview_every=2))
        finally:
            comfy.utils.ProgressBar.update_absolute = kept
        assert [(value, total) for value, total, _ in shown] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert [preview is not None for *_, preview in shown] == [False, True, False, True]
        assert shown[1][2][1].size == (16, 16)

    in_new_folder(check)


def refused(words: str, **changes: Any) -> None:
    """Asserts that this lesson is refused with a sentence that holds these words."""
    try:
        train(lesson(**changes))
    except PACK["dci_core.errors"].PackError as error:
        assert words in str(error), error
    else:
        raise AssertionError("no error")


def test_computing_blocks_again_gives_the_same_concept_and_leaves_nothing_behind() -> None:
    def check(folder: Path) -> None:
        training, (_, model, clip) = PACK["nodes.host.ico.training"], worlds()
        straight, losses = train(lesson(steps=3))
        for file in folder.rglob("zorp*"):
            file.unlink()
        told: list[bool] = []
        kept = training.is_short_of_memory
        training.is_short_of_memory = lambda *parts: told.append(kept(*parts)) or True
        try:
            saving, again = train(lesson(steps=3))
        finally:
            training.is_short_of_memory = kept
        assert told == [False]
        assert distance(torch.tensor(again), torch.tensor(losses)) < 1e-6 and same(saving, straight, 1e-5)
        for network in (model.model.diffusion_model, clip.cond_stage_model):
            assert not any("forward" in vars(module) for module in network.modules())

    in_new_folder(check)


def test_blocks_are_computed_again_where_little_memory_is_free() -> None:
    def check(folder: Path) -> None:
        training, seen = PACK["nodes.host.ico.training"], []
        backward = PACK["nodes.host.ico.backward"]
        gradients, share = training.open_to_gradients, backward.FREE_SHARE

        def watched(*networks: Any, recomputes: bool = False) -> Any:
            seen.append(recomputes)
            return gradients(*networks, recomputes=recomputes)

        training.open_to_gradients, backward.FREE_SHARE = watched, 1e-6
        try:
            train(lesson(steps=1))
        finally:
            training.open_to_gradients, backward.FREE_SHARE = gradients, share
        assert seen == [False, True]

    in_new_folder(check)


def test_bad_lessons_get_one_sentence() -> None:
    def check(folder: Path) -> None:
        refused("1 captions", captions=["a {concept}"])
        refused("trigger", trigger="my dog")
        refused("trigger", trigger="<dog>")
        refused("neither {concept} nor the noun", captions=["a", "b", "c"])
        refused("steps is 0", settings=replace(lesson().settings, steps=0))
        refused("no reference picture", images=[])
        assert not list(folder.rglob("*.safetensors"))
        train(lesson(steps=1, trigger="../do?g"))  # a word that is no file name gets a plain one, inside the folder
        assert [file.parent.name for file in folder.rglob("*.safetensors")] == ["trained"]
        assert not [file for file in folder.rglob("*") if "?" in file.name]

    in_new_folder(check)
