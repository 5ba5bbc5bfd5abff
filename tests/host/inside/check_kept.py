"""What starts a training anew, what goes on from a kept one, and what is cut from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from check_tiny import concept, worlds
from check_training import codec, in_new_folder, lesson, pictures, same, train
from lab import PACK


def vae() -> Any:
    """The host's VAE around the codec of random weights."""
    return PACK["nodes.host.tiny.unet"].host_vae(codec())


def key_of(chosen: Any, model: Any = None, clip: Any = None, decoder: Any = None) -> tuple[str, str]:
    """(key of the training, name of its concept's file) with these parts, else the usual ones."""
    _, own_model, own_clip = worlds()
    families, training = PACK["nodes.host.families.recognition"], PACK["nodes.host.ico.training"]
    model, clip, decoder = model or own_model, clip or own_clip, decoder or vae()
    family = families.family_of(model)
    chosen = training.acting(training.chosen(model, chosen, family))
    kept = PACK["nodes.host.ico.kept"].kept_at(model, clip, decoder, chosen, family)
    return kept.key, kept.concept.name


def defaults() -> dict[str, Any]:
    """The Train node's inputs as lists, at their defaults."""
    found = {}
    for entry in PACK["nodes.train_nodes"].ICOTrainConcept.define_schema().inputs:
        value = getattr(entry, "default", None)
        if value is not None:
            found[entry.id] = [value]
    return {**found, "images": [torch.stack(pictures())]}


def test_every_input_of_the_node_trains_anew_or_does_not_as_listed() -> None:
    mask, other = torch.ones(3, 128, 128), torch.stack(pictures()).flip(0)
    anew = {
        "images": other, "noun": "house", "learning_rate": 2e-4, "seed": 24, "batch": 3, "accumulation": 2,
        "modifier_tokens": 1, "size_px": 64, "contexts": False, "prior": "none", "positions": "reference",
        "schedule": "cosine", "flip_probability": 0.0, "context_factor": 5.0, "masks": mask,
        "captions": "a {concept}", "precision": "bf16", "rank": "4", "start_from": concept(),
    }  # fmt: skip
    cut = {"trigger": "other", "kept_rank": 4, "steps": 901}  # goes on from the same training, another file
    alike = {
        "preview_every": 3,
        "class_images": other,
        "class_captions": "a fish",  # the prior asks no pictures
        "sample_every": 5,
        "sample_prompts": "a mydog dog",  # drawn meanwhile
        "prompt": "a mydog dog",  # checked, then forgotten
        "memory": "8 GB",  # nothing to split in the tiny world
    }
    elsewhere = {"base_model", "base_clip", "vae"}  # the next test

    def check(folder: Path) -> None:
        node = PACK["nodes.train_nodes"]
        ids = {entry.id for entry in node.ICOTrainConcept.define_schema().inputs}
        assert ids == {*anew, *cut, *alike, *elsewhere}, ids ^ {*anew, *cut, *alike, *elsewhere}
        plain = key_of(node.lesson_from(defaults()))
        for name, value in {**anew, **cut, **alike}.items():
            count = 3 if name in ("captions", "class_captions") else 1
            found = key_of(node.lesson_from({**defaults(), name: [value] * count}))
            assert (found[0] != plain[0]) == (name in anew), name
            assert (found[1] != plain[1]) == (name not in alike), name
        with_pictures = {**defaults(), "prior": ["pictures"]}
        asked = key_of(node.lesson_from({**with_pictures, "class_images": [other]}))
        assert asked != key_of(node.lesson_from({**with_pictures, "class_images": [other.flip(0)]}))
        assert asked != key_of(node.lesson_from({**with_pictures, "masks": [other[..., 0]], "class_images": [other]}))
        off = {**defaults(), "contexts": [False]}
        assert key_of(node.lesson_from(off)) == key_of(node.lesson_from({**off, "context_factor": [3.0]}))
        assert key_of(node.lesson_from({**defaults(), "size_px": [128]})) == plain

    in_new_folder(check)


def test_every_part_of_the_model_that_changes_the_result_trains_anew() -> None:
    def check(folder: Path) -> None:
        from comfy.weight_adapter import LoRAAdapter

        _, model, clip = worlds()
        plain = key_of(lesson())
        assert key_of(lesson()) == plain == key_of(lesson(), model.clone(), clip.clone(), vae())
        tiny, core = PACK["nodes.host.tiny.unet"], worlds()[0]

        skipped = clip.clone()
        skipped.clip_layer(-2)
        patched = clip.clone()
        name = next(iter(clip.patcher.get_key_patches()))
        patched.add_patches({name: ("diff", (torch.ones(clip.patcher.get_key_patches()[name][0][0].shape),))}, 0.5)
        found = [key_of(lesson(), clip=skipped), key_of(lesson(), clip=patched)]

        weight = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
        rows, columns = model.get_key_patches(weight)[weight][0][0].shape
        for alpha, strength in ((1.0, 1.0), (2.0, 1.0), (1.0, 0.5)):  # numbers inside a patch, and its strength
            lora = LoRAAdapter(set(), (torch.ones(rows, 2), torch.ones(2, columns), alpha, None, None, None))
            clone = model.clone()
            assert clone.add_patches({weight: lora}, strength)
            found.append(key_of(lesson(), model=clone))

        sampling = model.clone()
        changed = type(model.get_model_object("model_sampling"))(model.model.model_config)
        changed.set_sigmas(changed.sigmas * 1.5)
        sampling.add_object_patch("model_sampling", changed)
        found.append(key_of(lesson(), model=sampling))

        decoder = PACK["dci_core.tiny.codec"].Codec().eval().requires_grad_(False)
        found.append(key_of(lesson(), decoder=tiny.host_vae(decoder)))

        with torch.no_grad():
            far = next(p for n, p in core.unet.named_parameters() if n.startswith("out"))
            far[0] += 1e-3  # no key or value weight
        found.append(key_of(lesson(), model=tiny.host_model(core)))
        with torch.no_grad():
            far[0] -= 1e-3
        keys = [plain[0], *(key for key, _ in found)]
        assert len(set(keys)) == len(keys), keys

    in_new_folder(check)


def steps_made(run: Callable[[], Any]) -> tuple[Any, list[int]]:
    """(what it gives, the steps that were trained meanwhile)."""
    training, made = PACK["nodes.host.ico.training"], []
    before = training.after_step

    def after_step(reports: Any, *args: Any) -> None:
        made.append(reports[-1].step)
        before(reports, *args)

    training.after_step = after_step
    try:
        return run(), made
    finally:
        training.after_step = before


def test_more_steps_go_on_and_another_rank_or_trigger_is_cut_from_the_same_training() -> None:
    def check(folder: Path) -> None:
        straight, losses = train(lesson(steps=5))
        for file in folder.rglob("zorp*"):
            file.unlink()
        (short, _), made = steps_made(lambda: train(lesson(steps=3)))
        assert made == [1, 2, 3]
        (more, all_losses), made = steps_made(lambda: train(lesson(steps=5)))
        assert made == [4, 5] and all_losses == losses and same(more, straight)
        (again, _), made = steps_made(lambda: train(lesson(steps=3, trigger="blip", keep_rank=2)))
        assert made == [] and again.trigger == "blip" and again.about.rank == 2 and again.about.loss["steps"] == 3
        (named, _), made = steps_made(lambda: train(lesson(steps=5, trigger="blip")))
        assert made == [] and same(named, straight) and named.phrase == "blip fish"
        (back, _), made = steps_made(lambda: train(lesson(steps=3)))
        assert made == [] and same(back, short)
        version = PACK["dci_core.concept.learned"]
        kept, version.VERSION = version.VERSION, "9.9.9"
        try:
            assert steps_made(lambda: train(lesson(steps=5)))[1] == []
        finally:
            version.VERSION = kept

    in_new_folder(check)


def test_an_unfinished_training_of_the_first_version_goes_on() -> None:
    def check(folder: Path) -> None:
        straight, losses = train(lesson(steps=4))
        (whole,) = folder.rglob("*.training")
        for file in folder.rglob("zorp*"):
            file.unlink()
        train(lesson(steps=2))
        (half,) = folder.rglob("*.training")
        _, model, _ = worlds()
        identity, family = PACK["nodes.host.concept.identity"], PACK["nodes.host.families.recognition"].family_of(model)
        chosen = PACK["nodes.host.ico.training"].chosen(model, lesson(steps=4), family)
        first = chosen.first_key(identity.base_hash(model, family) + identity.patches_hash(model))
        old = half.with_name(f"zorp-{first}.training")
        half.rename(old)
        (found, again), made = steps_made(lambda: train(lesson(steps=4)))
        assert made == [3, 4] and again == losses and same(found, straight)
        assert whole.exists() and not old.exists()  # passed by the file of today's name

    in_new_folder(check)


def test_old_trainings_go_away_by_age_and_count_and_never_the_newest() -> None:
    kept = PACK["nodes.host.ico.kept"]

    def check(folder: Path) -> None:
        now = 1e9
        files = [folder / f"a-{i}-9.training" for i in range(kept.MOST_KEPT + 3)]
        for i, file in enumerate(files):
            file.write_bytes(b"x")
            os.utime(file, (now - i * 86400, now - i * 86400))
        concepts = folder / "a.safetensors"
        concepts.write_bytes(b"x")
        assert kept.tidy(folder, [files[-1]], now) == files[kept.MOST_KEPT : -1]
        assert kept.tidy(folder, [], now) == [files[-1]]
        assert kept.tidy(folder, [], now + 1000 * 86400) == files[1 : kept.MOST_KEPT]
        assert files[0].exists() and concepts.exists()

    in_new_folder(check)


def test_a_damaged_training_is_passed_over_for_the_next_best() -> None:
    def check(folder: Path) -> None:
        straight, _ = train(lesson(steps=4))
        for file in folder.rglob("zorp*"):
            file.unlink()
        for steps in (2, 3):
            train(lesson(steps=steps))
        (bad,) = folder.rglob("*-3.training")
        bad.write_bytes(bad.read_bytes()[:-100])
        (found, _), made = steps_made(lambda: train(lesson(steps=4)))
        assert made == [3, 4] and same(found, straight)

    in_new_folder(check)


def test_a_concept_on_the_clip_changes_no_training() -> None:
    def check(folder: Path) -> None:
        _, model, clip = worlds()
        _, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, replace(concept(), trigger="blop"), 0.0)
        assert key_of(lesson()) == key_of(lesson(), clip=knows)  # words of captions never hold it

    in_new_folder(check)
