"""The nodes of image prompts in the host's own executor: whole graphs, bad input in one sentence, files and caches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from check_flow_reading import PROMPT, flow_adapter, flow_worlds, pictures
from check_graph import each_is_red
from check_tiny import worlds
from check_vision import small_vision
from graphs import SEEN, SHELF, Graph, Queue, changed, node
from lab import PACK, distance
from mmdit_lab import thin_model
from strangers import flux_model

WIDE = {"hidden_size": 64, "num_hidden_layers": 6}


@cache
def shelf() -> dict[str, Any]:
    """What the graphs start from."""
    _, _, model, clip, vision = flow_worlds()
    side = torch.zeros(1, 40, 60)
    side[:, :, :30] = 1
    SHELF.update(
        flow=model, flow_clip=clip, flow_vision=vision, references=pictures(), side=side, other_side=1 - side,
        whole=torch.ones(300, 200), black=torch.zeros(1, 16, 16), three=torch.ones(3, 16, 16),
        unet=worlds()[1], foreign=flux_model(), sd3=thin_model("sd3"), wide_vision=small_vision(**WIDE),
        shallow_vision=small_vision(hidden_size=128), no_pictures=torch.zeros(0, 64, 64, 3), second=flow_adapter(7),
    )  # fmt: skip
    return SHELF


def give(name: str) -> dict[str, Any]:
    """A node that gives something of the shelf."""
    assert name in shelf(), name
    return {"class_type": "LabGive", "inputs": {"name": name}}


@contextmanager
def adapter_folder() -> Iterator[Path]:
    """A folder of adapters that the host sees, with one adapter of random weights in it."""
    import folder_paths

    files = PACK["nodes.host.dynaip.adapter_files"]
    files.register()
    kept = folder_paths.folder_names_and_paths[files.FOLDER]
    with tempfile.TemporaryDirectory() as place:
        folder_paths.folder_names_and_paths[files.FOLDER] = ([place], {PACK["nodes.host.folders"].SUFFIX})
        folder_paths.filename_list_cache.pop(files.FOLDER, None)
        save = PACK["dci_core.dynaip.adapter_file"].save_adapter
        save(flow_adapter().core, Path(place) / "mine.safetensors", precision="fp32")
        try:
            yield Path(place)
        finally:
            folder_paths.folder_names_and_paths[files.FOLDER] = kept
            folder_paths.filename_list_cache.pop(files.FOLDER, None)


def reading() -> Graph:
    """Load an adapter, let the flow model read one subject, sample two steps, look where it was read."""
    return {
        "model": give("flow"), "clip": give("flow_clip"), "vision": give("flow_vision"), "images": give("references"),
        "adapter": node("DynaIPLoadAdapter", adapter_name="mine.safetensors"),
        "apply": node(
            "DynaIPApply", model=["model", 0], clip_vision=["vision", 0], adapter=["adapter", 0], images=["images", 0]
        ),
        "positive": node("CLIPTextEncode", clip=["clip", 0], text=PROMPT),
        "negative": node("CLIPTextEncode", clip=["clip", 0], text=""),
        "empty": node("EmptyLatentImage", width=128, height=128),
        "sampler": node(
            "KSampler", model=["apply", 0], positive=["positive", 0], negative=["negative", 0],
            latent_image=["empty", 0], steps=2, cfg=3.5, scheduler="simple",
        ),
        "preview": node("DynaIPPreview", record=["apply", 1], latent=["sampler", 0], cell=8),
        "kept": {"class_type": "LabKeep", "inputs": {"name": "latent", "value": ["sampler", 0]}},
        "shown": {"class_type": "LabKeep", "inputs": {"name": "maps", "value": ["preview", 0]}},
        "told": {"class_type": "LabKeep", "inputs": {"name": "facts", "value": ["adapter", 1]}},
    }  # fmt: skip


def last(name: str) -> Any:
    return SEEN[name][-1]


def drawn(graph: Graph, queue: Queue | None = None) -> torch.Tensor:
    """The latent of a graph that must succeed."""
    trouble = (queue or Queue()).run(graph)
    assert trouble is None, trouble
    return last("latent")["samples"].clone()


def test_a_graph_of_one_subject_draws_and_shows_where_it_was_read() -> None:
    with adapter_folder():
        queue, graph = Queue(), reading()
        first = drawn(graph, queue)
        blocks = len(flow_adapter().blocks)
        assert last("maps").shape == (1, blocks * 8, PACK["nodes.maps"].LABEL_PX + 2 * 8, 3)
        assert "tiny_flow" in last("facts") and "layers 2, 4, 6 of 6" in last("facts")
        off = drawn(changed(graph, {"apply.scale": 0.0}), queue)
        assert distance(first, off) > 1e-2 and float(last("maps").max()) == 0
        plain = drawn(changed(graph, {"sampler.model": ["model", 0]}), queue)
        assert torch.equal(off, plain)
        assert torch.equal(drawn(graph), first)


def test_a_chain_of_two_subjects_with_regions_draws() -> None:
    with adapter_folder():
        graph = reading()
        graph |= {"side": give("side"), "other": give("other_side"), "second": give("second")}
        graph["apply"]["inputs"] |= {"where": "region", "region": ["side", 0], "subject_mask": ["side", 0]}
        one = drawn(graph)
        again = {**graph["apply"], "inputs": {**graph["apply"]["inputs"], "model": ["apply", 0]}}
        again["inputs"] |= {"adapter": ["second", 0], "region": ["other", 0], "subject_mask": ["other", 0]}
        graph["then"] = again
        two = drawn(changed(graph, {"sampler.model": ["then", 0], "preview.record": ["then", 1]}))
        assert distance(one, two) > 1e-3
        assert last("maps").shape[1] == 2 * len(flow_adapter().blocks) * 8


def test_masks_of_any_size_and_regions_that_overlap_are_taken() -> None:
    with adapter_folder():
        graph = reading() | {"whole": give("whole"), "side": give("side")}
        graph["apply"]["inputs"] |= {"where": "region", "region": ["whole", 0], "subject_mask": ["whole", 0]}
        graph["then"] = {**graph["apply"], "inputs": {**graph["apply"]["inputs"], "model": ["apply", 0]}}
        graph["then"]["inputs"] |= {"region": ["side", 0]}
        assert drawn(changed(graph, {"sampler.model": ["then", 0]})).isfinite().all()


def test_what_cannot_be_read_turns_red_with_one_sentence_and_the_queue_lives_on() -> None:
    names = ("unet", "foreign", "sd3", "wide_vision", "shallow_vision", "no_pictures", "black", "three")
    on_apply = {
        "a U-Net": ({"model": ["unet", 0]}, "UNetModel"),
        "sizes of no family": ({"model": ["foreign", 0]}, "width 64"),
        "another transformer": ({"model": ["sd3", 0]}, "MMDiT"),
        "a wider vision model": ({"clip_vision": ["wide_vision", 0]}, "64 wide"),
        "a shallower vision model": ({"clip_vision": ["shallow_vision", 0]}, "4 layers"),
        "no pictures": ({"images": ["no_pictures", 0]}, "no picture"),
        "a black mask": ({"subject_mask": ["black", 0]}, "shows nothing"),
        "three masks": ({"subject_mask": ["three", 0]}, "3 subject masks"),
        "no region": ({"where": "region"}, "no region mask"),
        "no noun": ({"where": "noun", "clip": ["clip", 0], "prompt": PROMPT}, "noun did not come"),
        "a noun elsewhere": ({"where": "noun", "clip": ["clip", 0], "prompt": PROMPT, "noun": "boat"}, "'boat'"),
        "blocks of no kind": ({"blocks": "triple3"}, "triple3"),
        "an end before its start": ({"start": 0.8, "end": 0.2}, "0.8"),
        "weights that are words": ({"level_weights": "much"}, "much"),
        "too many weights": ({"level_weights": "1 0 0 0"}, "4 level weights"),
    }
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        name: ({f"apply.{field}": value for field, value in changes.items()}, "apply", words)
        for name, (changes, words) in on_apply.items()
    }
    with adapter_folder() as folder:
        (folder / "broken.safetensors").write_bytes(b"no adapter at all")
        cases["a broken file"] = ({"adapter.adapter_name": "broken.safetensors"}, "adapter", "broken.safetensors")
        each_is_red(reading() | {name: give(name) for name in names}, cases)


def test_an_adapter_of_another_family_turns_red() -> None:
    from dataclasses import replace

    apply = PACK["nodes.dynaip_nodes"].DynaIPApply
    core = PACK["dci_core.dynaip.adapter"]
    with torch.inference_mode(False):
        small = replace(core.default_params("tiny_flow"), family="sd3", blocks=None)
        other = PACK["nodes.host.dynaip.adapters"].HostAdapter("other", core.Adapter(small))
    dials = {"scale": 1.0, "text_scale": 0.0, "granularity": 0.0, "start": 0.0, "end": 1.0, "blocks": "all"}
    try:
        apply.execute(shelf()["flow"], shelf()["flow_vision"], other, pictures(), where="everywhere", **dials)
    except PACK["dci_core.errors"].BadAdapter as error:
        assert "sd3" in str(error) and "tiny_flow" in str(error)
    else:
        raise AssertionError("no error")


def test_files_come_from_the_adapter_folder_alone_and_a_changed_one_is_loaded_again() -> None:
    files = PACK["nodes.host.dynaip.adapter_files"]
    with adapter_folder() as folder:
        assert files.adapter_names() == ["mine.safetensors", files.TINY]
        before = files.stamp("mine.safetensors")
        save = PACK["dci_core.dynaip.adapter_file"].save_adapter
        save(flow_adapter(9).core, folder / "mine.safetensors", precision="bf16")
        assert before and files.stamp("mine.safetensors") != before
        assert files.stamp("../mine.safetensors") == "" and files.stamp(files.TINY)
        for name in ("../mine.safetensors", str(folder / "mine.safetensors"), "none.safetensors"):
            try:
                files.adapter_path(name)
            except PACK["dci_core.errors"].BadAdapter as error:
                assert "there is no adapter" in str(error)
            else:
                raise AssertionError(name)
        (folder / "mine.safetensors").unlink()
        assert files.adapter_names() == [files.TINY]
