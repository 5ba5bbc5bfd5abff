"""Bad input in the graph: one node turns red with one sentence, and the queue lives on. Cancel, cache, resume."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from check_tiny import AUXILIARY, NOUN, PROMPT, concept, worlds
from check_training import codec, in_new_folder, pictures
from check_workflows import definition
from graphs import SEEN, SHELF, Graph, Queue, Red, changed, heard, node
from lab import PACK, distance
from strangers import clip_of_another_family, flux_model, fp8_model, gguf_model, small_sd_model

LEARNING = {"noun": NOUN, "trigger": "zorp", "steps": 1, "batch": 1, "size_px": 64, "preview_every": 0}


@cache
def shelf() -> dict[str, Any]:
    """What the graphs start from."""
    _, model, clip = worlds()
    SHELF.update(
        model=model,
        clip=clip,
        vae=PACK["nodes.host.tiny.unet"].host_vae(codec()),
        pictures=torch.stack(pictures()),
        concept=concept(),
        flux=flux_model(),
        fp8=fp8_model(),
        gguf=gguf_model(),
        other_clip=clip_of_another_family(clip),
        small=small_sd_model(),
        other_concept=replace(concept(), family="sd15"),
        tiny_pictures=torch.rand(2, 8, 8, 3),
        nan_pictures=torch.full((1, 128, 128, 3), float("nan")),
        black_masks=torch.zeros(3, 128, 128),
        small_masks=torch.ones(3, 32, 32),
        two_masks=torch.ones(2, 128, 128),
        knows=PACK["nodes.host.concept.triggers"].with_trigger(clip, "zorp", {"clip_l": torch.zeros(2, 128)}),
    )
    return SHELF


def give(name: str) -> dict[str, Any]:
    """A node that gives something of the shelf."""
    assert name in shelf(), name
    return {"class_type": "LabGive", "inputs": {"name": name}}


def learning(**given: Any) -> Graph:
    """Train, and keep the concept."""
    sources = {"base_model": "model", "base_clip": "clip", "vae": "vae", "images": "pictures"}
    graph = {name: give(what) for name, what in sources.items()}
    graph["train"] = node("ICOTrainConcept", **{name: [name, 0] for name in sources}, **{**LEARNING, **given})
    graph["kept"] = {"class_type": "LabKeep", "inputs": {"name": "concept", "value": ["train", 2]}}
    return graph


def drawing() -> Graph:
    """Load a concept's model by hand, pair, patch, sample two steps, keep the latent."""
    SHELF.setdefault("knowing", PACK["nodes.host.concept.apply"].with_concept(*worlds()[1:], concept(), 1.0))
    SHELF["own"], SHELF["knows"] = SHELF["knowing"]
    return {
        "model": give("own"),
        "clip": give("knows"),
        "concept": give("concept"),
        "pair": node(
            "DCIPromptPair", clip=["clip", 0], concept=["concept", 0], prompt=PROMPT, auxiliary_noun=AUXILIARY
        ),
        "mask": node("DBIMLayerMask"),
        "apply": node("DCIApply", model=["model", 0], plan=["pair", 1], layers=["mask", 0], guidance="aligned"),
        "negative": node("CLIPTextEncode", clip=["clip", 0], text=""),
        "empty": node("EmptyLatentImage", width=128, height=128),
        "sampler": node(
            "KSampler",
            model=["apply", 0],
            positive=["pair", 0],
            negative=["negative", 0],
            latent_image=["empty", 0],
            steps=2,
        ),
        "kept": {"class_type": "LabKeep", "inputs": {"name": "latent", "value": ["sampler", 0]}},
    }


def each_is_red(graph: Graph, cases: Mapping[str, tuple[dict[str, Any], str, str]]) -> None:
    """Asserts for each case that its node is red with one sentence that holds the words, and that the queue lives on.

    cases  name -> ({"node.input": value}, the red node, words of its sentence)
    """
    queue, wrong = Queue(), {}
    for name, (changes, place, words) in cases.items():
        found = queue.run(changed(graph, changes))
        if not (isinstance(found, Red) and found.node == place and words in found.sentence and is_one_sentence(found)):
            wrong[name] = found
    assert not wrong, wrong
    assert queue.run(graph) is None


def is_one_sentence(red: Red) -> bool:
    """Whether this is one of the pack's own errors: what came, what was expected, what to do."""
    is_ours = hasattr(PACK["dci_core.errors"], red.kind)
    return is_ours and "\n" not in red.sentence and red.sentence.count("; ") >= 2


def test_a_training_that_cannot_work_turns_red_and_the_queue_lives_on() -> None:
    shelf()
    extra = {"nan": give("nan_pictures"), "tiny": give("tiny_pictures"), "flux": give("flux"), "fp8": give("fp8")}
    extra |= {"gguf": give("gguf"), "other": give("other_clip"), "black": give("black_masks")}
    extra |= {"small": give("small_masks"), "two": give("two_masks"), "knows": give("knows")}
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        name: ({f"train.{field}": value}, "train", words)
        for name, field, value, words in (
            ("no noun", "noun", "", "noun"),
            ("two words", "trigger", "my dog", "trigger"),
            ("brackets", "trigger", "<dog>", "trigger"),
            ("no steps", "steps", 0, "steps is 0"),
            ("no rate", "learning_rate", 0.0, "learning rate is 0"),
            ("no number", "learning_rate", float("nan"), "learning rate is nan"),
            ("too high a rate", "learning_rate", 1e30, "at most 1000 is expected"),
            ("no class pictures", "prior", "pictures", "class picture"),
            ("one caption", "captions", "a {concept}", "captions"),
            ("a long text", "captions", "the " * 80 + "{concept}", "caption"),
            ("tiny pictures", "images", ["tiny", 0], "8x8 px"),
            ("pictures of nan", "images", ["nan", 0], "NaN"),
            ("black masks", "masks", ["black", 0], "black"),
            ("small masks", "masks", ["small", 0], "32x32 px"),
            ("too few masks", "masks", ["two", 0], "2 masks"),
            ("a transformer", "base_model", ["flux", 0], "FLUX's kind with 2 blocks"),
            ("fp8 weights", "base_model", ["fp8", 0], "float8"),
            ("quantised weights", "base_model", ["gguf", 0], "fp32, fp16 or bf16"),
            ("another CLIP", "base_clip", ["other", 0], "CLIP"),
            ("a prompt without the trigger", "prompt", f"a {NOUN} in snow", "(the input prompt)"),
            ("a prompt without the noun", "prompt", "a zorp in snow", "(the input prompt)"),
            ("a trigger that is taken", "base_clip", ["knows", 0], "two concepts"),
        )
    }
    cases["too high a rate"][0]["train.steps"] = 3

    def check(folder: Path) -> None:
        each_is_red({**learning(), **extra}, cases)
        left = sorted(file.suffix for file in folder.rglob("zorp*"))
        assert left == [".json", ".safetensors", ".training"], left  # of the good one alone: no other was begun

    in_new_folder(check)


def test_a_drawing_that_cannot_work_turns_red_and_the_queue_lives_on() -> None:
    shelf()
    graph = {**drawing(), "flux": give("flux"), "base": give("clip"), "small": give("small")}
    graph["other"] = {**graph["pair"], "inputs": {**graph["pair"]["inputs"], "prompt": "a zorp fish in the city"}}
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "no trigger": ({"pair.prompt": "a fish in the snow"}, "pair", "zorp fish"),
        "own class": ({"pair.auxiliary_noun": "fish"}, "pair", "own class"),
        "no word": ({"pair.auxiliary_noun": " "}, "pair", "noun"),
        "not in the auxiliary prompt": ({"pair.auxiliary_prompt": "a tree in the snow"}, "pair", "'house' is not in"),
        "a CLIP that does not know it": ({"pair.clip": ["base", 0]}, "pair", "does not know"),
        "a transformer": ({"apply.model": ["flux", 0]}, "apply", "FLUX's kind with 2 blocks"),
        "a model of another family": ({"apply.model": ["small", 0]}, "apply", "wide"),
        "window": ({"apply.window": 2.0}, "apply", "window"),
        "strength": ({"apply.strength": float("nan")}, "apply", "strength"),
        "no such layer": ({"mask.preset": "custom", "mask.text": "in99"}, "apply", "names no cross-attention"),
        "no text": ({"mask.preset": "custom", "mask.text": " "}, "apply", "layer text is empty"),
        "no sense": ({"mask.preset": "custom", "mask.text": "left half"}, "apply", "layer text holds"),
        "no share": ({"mask.preset": "custom", "mask.text": "mid:2"}, "apply", "share"),
        "another pair": ({"sampler.positive": ["other", 0]}, "sampler", "DCI Prompt Pair"),
        "no pair": ({"sampler.positive": ["negative", 0]}, "sampler", "DCI Prompt Pair"),
    }
    each_is_red(graph, cases)
    assert SEEN["latent"][-1]["samples"].isfinite().all()


def keeping(folder: Path) -> Graph:
    """Load a concept from its file and write it again."""
    graph = {"model": give("model"), "clip": give("clip"), "concept": give("concept")}
    PACK["dci_core.concept.file"].save_concept(concept(), folder / "good.safetensors")
    PACK["dci_core.concept.file"].save_concept(shelf()["other_concept"], folder / "other.safetensors")
    (folder / "pickle.safetensors").write_bytes(b"\x80\x04\x95not tensors")
    (folder / "file").write_text("in the way", encoding="utf-8")
    loading = {"base_model": ["model", 0], "base_clip": ["clip", 0], "concept_name": "good.safetensors"}
    graph["load"] = node("ICOLoadConcept", **loading, strength=1.0)
    graph["save"] = node("ICOSaveConcept", concept=["load", 2], filename="again")
    graph["export"] = node("ICOExportConcept", concept=["load", 2], filename="again", rank=2)
    for name in ("save", "export"):
        graph[f"{name} kept"] = {"class_type": "LabKeep", "inputs": {"name": name, "value": [name, 0]}}
    return graph


def test_a_file_that_cannot_be_used_turns_red_and_the_queue_lives_on() -> None:
    shelf()

    def check(folder: Path) -> None:
        cases: dict[str, tuple[dict[str, Any], str, str]] = {
            "not there": ({"load.concept_name": "none.safetensors"}, "load", "no concept"),
            "out of the folder": ({"load.concept_name": "../good.safetensors"}, "load", "no concept"),
            "absolute": ({"load.concept_name": str(folder / "good.safetensors")}, "load", "no concept"),
            "a pickle": ({"load.concept_name": "pickle.safetensors"}, "load", "pickle.safetensors"),
            "another family": ({"load.concept_name": "other.safetensors"}, "load", "is for sd15"),
            "a file in the way": ({"save.filename": "file/again"}, "save", "file"),
        }
        for name in ("../x", "/x", "a/../../x", "c:x", "\\x", ""):
            for place in ("save", "export"):
                cases[f"{place} {name!r}"] = ({f"{place}.filename": name}, place, "file name")
        with folders_for_exports(folder):
            each_is_red(keeping(folder), cases)
        assert not (folder.parent / "x.safetensors").exists()

    in_new_folder(check)


def folders_for_exports(folder: Path) -> Any:
    """LoRA and embedding files go into this folder for a while."""
    from contextlib import ExitStack

    import folder_paths

    stack = ExitStack()
    for name in ("loras", "embeddings"):
        kept = folder_paths.folder_names_and_paths[name]
        stack.callback(folder_paths.folder_names_and_paths.__setitem__, name, kept)
        folder_paths.folder_names_and_paths[name] = ([str(folder / name)], kept[1])
    return stack


def test_a_run_below_the_window_says_so_and_is_the_plain_run() -> None:
    shelf()
    graph, queue = drawing(), Queue()
    low = changed(graph, {"sampler.denoise": 0.4, "apply.window": 0.1})
    plain = changed(low, {"sampler.model": ["model", 0]})
    with heard() as said:
        assert queue.run(low) is None and queue.run(plain) is None
    assert sum("DCI never acted" in line for line in said) == 1, said
    mine, theirs = (kept["samples"] for kept in SEEN["latent"][-2:])
    assert torch.equal(mine, theirs)
    assert queue.run(changed(graph, {"sampler.denoise": 0.9, "sampler.steps": 4})) is None
    assert (
        queue.run(changed(graph, {"sampler.denoise": 0.9, "sampler.steps": 4, "sampler.model": ["model", 0]})) is None
    )
    mine, theirs = (kept["samples"] for kept in SEEN["latent"][-2:])
    assert distance(mine, theirs) > 1e-3


def test_a_model_without_any_concept_is_told_on_the_node() -> None:
    shelf()
    SHELF["bare"] = worlds()[1]
    graph, queue = {**drawing(), "bare": give("bare")}, Queue()
    for source, is_told in (("bare", True), ("model", False)):
        with heard() as said:
            assert queue.run(changed(graph, {"apply.model": [source, 0]})) is None
        assert any("no concept is on this MODEL" in line for line in said) is is_told, (source, said)


def custom_sampling(graph: Graph) -> Graph:
    """The same drawing by SamplerCustomAdvanced and its helpers."""
    old = graph["sampler"]["inputs"]
    for kind in ("RandomNoise", "KSamplerSelect", "BasicScheduler", "CFGGuider", "SamplerCustomAdvanced"):
        assert definition(kind) is not None, kind
    source = {name: old[name] for name in ("model", "positive", "negative", "cfg")}
    parts = {
        "noise": node("RandomNoise", noise_seed=old["seed"]),
        "how": node("KSamplerSelect", sampler_name=old["sampler_name"]),
        "sigmas": node("BasicScheduler", model=old["model"], scheduler=old["scheduler"], steps=old["steps"]),
        "guider": node("CFGGuider", **source),
    }
    links = {"noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["how", 0], "sigmas": ["sigmas", 0]}
    sampler = node("SamplerCustomAdvanced", **links, latent_image=old["latent_image"])
    return {**graph, **parts, "sampler": sampler}


def test_the_custom_sampler_nodes_draw_what_ksampler_draws() -> None:
    shelf()
    graph, queue = drawing(), Queue()
    assert queue.run(graph) is None and queue.run(custom_sampling(graph)) is None
    plain = changed(graph, {"sampler.model": ["model", 0]})
    assert queue.run(plain) is None
    stock, custom, off = (kept["samples"] for kept in SEEN["latent"][-3:])
    assert torch.equal(stock, custom) and distance(stock, off) > 1e-3


def without_training(run: Callable[[], Any]) -> Any:
    """Runs something where a training would fail."""
    training = PACK["nodes.host.ico.training"]
    kept, training.run_training = training.run_training, None
    try:
        return run()
    finally:
        training.run_training = kept


def test_a_cancelled_queue_goes_on_where_it_was_and_a_second_never_trains() -> None:
    shelf()

    def check(folder: Path) -> None:
        import comfy.model_management as management

        graph, training = learning(steps=4), PACK["nodes.host.ico.training"]
        assert Queue().run(graph) is None
        straight = SEEN["concept"][-1]
        for file in folder.rglob("zorp*"):
            file.unlink()
        kept, steps = training.after_step, []

        def cancel(reports: Any, *args: Any) -> None:
            steps.append(reports[-1].step)
            if reports[-1].step == 2 and len(steps) == 2:
                management.interrupt_current_processing()
            kept(reports, *args)

        training.after_step, queue = cancel, Queue()
        try:
            assert queue.run(graph) == "interrupted"
            assert [file.suffix for file in folder.rglob("zorp*")] == [".training"]
            assert queue.run(graph) is None
        finally:
            training.after_step = kept
        assert steps == [1, 2, 3, 4]
        resumed = SEEN["concept"][-1]
        assert all(torch.equal(resumed.tokens[name], straight.tokens[name]) for name in straight.tokens)
        assert all(torch.equal(resumed.deltas[at].k.up, delta.k.up) for at, delta in straight.deltas.items())
        assert without_training(lambda: queue.run(graph)) is None  # the host's own cache
        assert without_training(lambda: Queue().run(graph)) is None  # the file
        red = without_training(lambda: Queue().run(learning(steps=5)))
        assert isinstance(red, Red) and red.node == "train"
        assert torch.equal(copy.copy(SEEN["concept"][-1]).tokens["clip_l"], straight.tokens["clip_l"])

    in_new_folder(check)
