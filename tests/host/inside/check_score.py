"""Concept Score with small encoders of the real classes, and behind DCI Sweep."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from check_nodes import outputs, refused
from check_sweep import parts, swept
from check_tiny import concept
from lab import PACK


def builders() -> ModuleType:
    """What makes the encoders' folders; the core's tests use it too."""
    place = Path(PACK["nodes"].__file__).parents[1] / "tests" / "core" / "encoder_folders.py"
    spec = importlib.util.spec_from_file_location("encoder_folders", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def encoders() -> Iterator[Path]:
    """A folder with a CLIP and a DINO that the host takes for models/ico_scores."""
    import folder_paths

    build, before = builders(), dict(folder_paths.folder_names_and_paths)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with torch.inference_mode(False):
            build.clip_folder(root / "clip")
            build.dino_folder(root / "maker" / "dino")
        folder_paths.folder_names_and_paths["ico_scores"] = ([folder], set())
        try:
            yield root
        finally:
            folder_paths.folder_names_and_paths.clear()
            folder_paths.folder_names_and_paths.update(before)


def noise(count: int, seed: int, side: int = 40) -> torch.Tensor:
    """Pictures [b h w 3]."""
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(seed))


def scored(**changes: Any) -> tuple[Any, ...]:
    """What the node gives; every input comes as a list."""
    given = {
        "images": noise(2, 0),
        "references": noise(3, 1),
        "prompts": "a fish in the snow\na dog",
        "clip_folder": "ico_scores/clip",
        "dino_folder": "ico_scores/maker/dino",
        **changes,
    }
    return outputs(
        "DCIConceptScore", **{name: value if isinstance(value, list) else [value] for name, value in given.items()}
    )


def test_the_node_scores_as_the_core_does() -> None:
    core, load = PACK["dci_core.score.scores"], PACK["dci_core.score.encoders"]
    as_rgb = PACK["dci_core.pictures.reference"].as_rgb
    with encoders() as root:
        *values, told = scored()
        judges = core.Judges(load.load_clip(root / "clip"), load.load_dino(root / "maker" / "dino"))
        known = core.look_at_references(judges, [as_rgb(picture) for picture in noise(3, 1)])
        found = core.score_pictures(judges, known, [as_rgb(p) for p in noise(2, 0)], ["a fish in the snow", "a dog"])
    assert values == [found[name].value for name in ("clip_t", "clip_i", "dino")] and len(set(values)) == 3
    assert "CLIP-T" in told and "references" in told


def test_the_folders_are_offered_by_what_they_hold() -> None:
    names = PACK["nodes.host.encoders"].encoder_names
    kinds = PACK["dci_core.score.folders"]
    with encoders():
        assert names(kinds.CLIP)[0] == "ico_scores/clip" and names(kinds.CLIP)[-1] == "none"
        assert names(kinds.DINO)[0] == "ico_scores/maker/dino"
    assert "ico_scores/clip" not in names(kinds.CLIP)


def test_lists_of_pictures_of_any_size_are_taken() -> None:
    with encoders():
        several = scored(images=[noise(1, 0), noise(1, 3, side=64)], references=[noise(1, 1), noise(1, 2, side=50)])
        batch = scored(images=[noise(1, 0), noise(1, 3, side=40)])
    assert all(-1 <= value <= 1 for value in several[:3]) and several[:3] != batch[:3]


def test_the_trigger_is_left_out_of_the_prompts() -> None:
    with encoders():
        told = scored(prompts="a zorp fish in the snow\na zorp fish", concept=concept())
        plain = scored(prompts="a fish in the snow\na fish")
        spoken = scored(prompts="a zorp fish in the snow\na zorp fish")
    assert told[0] == plain[0] != spoken[0]


def test_one_encoder_is_enough_and_none_is_refused() -> None:
    with encoders():
        *values, told = scored(clip_folder="none")
        assert values[0] != values[0] and values[1] != values[1] and -1 <= values[2] <= 1 and "CLIP" not in told
        refused("no encoder", lambda: scored(clip_folder="none", dino_folder="none"))


def test_a_sweep_is_compared_setting_by_setting() -> None:
    _, images, labels = swept(parts(pictures=2), windows="0.3, 0.6", strengths="1")
    with encoders():
        *_, told = scored(images=images, prompts="a fish in the snow", labels=labels)
    heads = [line.split("  ")[0] for line in told.splitlines()[1:-1]]
    assert heads == ["plain", "window 0.3, strength 1", "window 0.6, strength 1", "references"]
    assert told.splitlines()[-1].startswith("*")


def test_a_score_can_be_cancelled() -> None:
    import comfy.model_management as management

    with encoders():
        management.interrupt_current_processing()
        try:
            scored()
        except management.InterruptProcessingException:
            pass
        else:
            raise AssertionError("it went on")
        assert len(scored()) == 4


def test_bad_input_gets_one_sentence() -> None:
    with encoders() as root:
        refused("at least 2", lambda: scored(references=noise(1, 1)))
        refused("3 prompts for 2 pictures", lambda: scored(prompts="a\nb\nc"))
        refused("0 prompts", lambda: scored(prompts=""))
        refused("no model folder", lambda: scored(clip_folder="ico_scores/gone"))
        refused("no model folder", lambda: scored(clip_folder="ico_scores/../clip"))
        refused("type dinov2", lambda: scored(clip_folder="ico_scores/maker/dino"))
        refused("3 labels came for 2", lambda: scored(labels="a\nb\nc"))
        (root / "clip" / "model.safetensors").unlink()
        refused("no safetensors weights", lambda: scored())
