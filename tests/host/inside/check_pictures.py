"""A folder of pictures below the host's input folder, with masks and captions beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from check_graph import LEARNING, give, is_one_sentence, shelf
from check_training import in_new_folder
from graphs import SEEN, Queue, Red, changed, node
from PIL import Image

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))


def with_input_folder(check: Callable[[Path], None]) -> None:
    """Runs a check with an input folder of its own: `mine/` with three pictures, one mask and one caption."""
    import folder_paths

    before = folder_paths.get_input_directory()
    with tempfile.TemporaryDirectory() as place:
        mine = Path(place) / "mine"
        mine.mkdir()
        (Path(place) / "no pictures").mkdir()
        for number, colour in enumerate(COLOURS):
            Image.new("RGB", (64 + 8 * number, 80), colour).save(mine / f"{number}.png")
        Image.new("L", (72, 80), 255).save(mine / "1.mask.png")
        (mine / "2.txt").write_bytes("a fish in a caf\u00e9".encode("cp1252"))
        folder_paths.set_input_directory(place)
        try:
            check(mine)
        finally:
            folder_paths.set_input_directory(before)


def loaded(**given: Any) -> tuple[Any, dict[str, Any]]:
    """(outputs, what the node says)."""
    import nodes

    out = nodes.NODE_CLASS_MAPPINGS["ICOLoadPictures"].execute(**given)
    return out.args, out.ui["ico_dci"][0]


def test_a_folder_comes_with_its_masks_and_captions() -> None:
    def check(mine: Path) -> None:
        (pictures, masks, captions), told = loaded(folder="mine", noun="fish")
        assert [tuple(picture.shape) for picture in pictures] == [(1, 80, 64 + 8 * n, 3) for n in range(3)]
        assert [picture[0, 0, 0].argmax().item() for picture in pictures] == [0, 1, 2]
        assert [tuple(mask.shape) for mask in masks] == [(1, 80, 64 + 8 * n) for n in range(3)]
        assert captions == ["", "", "a {concept} in a caf\u00e9"]
        assert "3 pictures, 1 masks, 1 captions" in told["lines"][0]
        assert loaded(folder="mine")[0][2][2] == "a fish in a caf\u00e9"

    with_input_folder(check)


def test_the_node_lists_folders_with_pictures_and_sees_a_change() -> None:
    import nodes

    def check(mine: Path) -> None:
        (mine / "again").symlink_to(mine.parent, target_is_directory=True)
        cls = nodes.NODE_CLASS_MAPPINGS["ICOLoadPictures"]
        entry = next(entry for entry in cls.define_schema().inputs if entry.id == "folder")
        assert entry.options == ["mine"]
        before = cls.fingerprint_inputs(folder="mine")
        (mine / "1.txt").write_text("a {concept}")
        assert before and cls.fingerprint_inputs(folder="mine") != before

    with_input_folder(check)


def test_a_graph_trains_on_the_folder_and_a_wrong_one_gets_a_sentence() -> None:
    shelf()

    def check(mine: Path) -> None:
        sources = {"base_model": "model", "base_clip": "clip", "vae": "vae"}
        graph = {name: give(what) for name, what in sources.items()}
        graph["folder"] = node("ICOLoadPictures", folder="mine")  # the caption holds the noun of the training
        graph["train"] = node(
            "ICOTrainConcept",
            **{name: [name, 0] for name in sources},
            images=["folder", 0],
            masks=["folder", 1],
            captions=["folder", 2],
            **LEARNING,
        )
        graph["kept"] = {"class_type": "LabKeep", "inputs": {"name": "from folder", "value": ["train", 2]}}
        queue = Queue()
        assert queue.run(graph) is None and SEEN["from folder"]
        for name in ("gone", "../mine", "", "no pictures"):
            red = queue.run(changed(graph, {"folder.folder": name}))
            assert isinstance(red, Red) and red.node == "folder" and is_one_sentence(red), (name, red)

    with_input_folder(lambda mine: in_new_folder(lambda folder: check(mine)))
