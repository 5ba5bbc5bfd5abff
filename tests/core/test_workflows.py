"""Shipped workflows and help pages, read without a host: `tests/host/inside/check_workflows.py` holds them to one."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "workflows").glob("*.json"))
RELEASED = sorted((ROOT / "tests" / "golden" / "workflows").glob("*/*.json"))
NOTES = {"MarkdownNote", "Note"}
CONTROLS = {"fixed", "increment", "decrement", "randomize"}
NUMBERS = list(range(1, 15))
LOADERS = {  # nodes that load public model files, and the folders that these are in
    "CheckpointLoaderSimple": ("checkpoints",),
    "ControlNetLoader": ("controlnet",),
    "UNETLoader": ("diffusion_models",),
    "CLIPLoader": ("text_encoders",),
    "DualCLIPLoader": ("text_encoders",),
    "VAELoader": ("vae",),
}
MOST_COLUMNS = 2  # of a help page's tables: the page's panel cuts a third one off
TITLE = 30  # of a node, px above its position
BAR = 85  # px of the window that the page's own bar covers
THUMBNAIL_PX = (300, 600)  # least and most of the longer side

each = pytest.mark.parametrize("path", [*SHIPPED, *RELEASED], ids=lambda path: f"{path.parent.name}/{path.stem}")


@cache
def read(path: Path) -> dict[str, Any]:
    """A workflow as the page saves it."""
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def own_ids() -> set[str]:
    """Node ids that stand as literals in the source, as the manager finds them."""
    calls = (
        node
        for path in (ROOT / "nodes").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    )
    named = (word.value for call in calls for word in call.keywords if word.arg == "node_id")
    return {str(value.value) for value in named if isinstance(value, ast.Constant)}


def number_of(path: Path) -> int:
    """The number that a workflow's name begins with."""
    return int(path.name.split(" ", 1)[0])


def is_ours(node: dict[str, Any]) -> bool:
    """Whether a workflow says that the node comes from this pack."""
    return node["properties"].get("cnr_id") == "ico-dci"


def strings(value: Any) -> Iterator[str]:
    """Every text in a nest of lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_all_workflows_are_there_in_order() -> None:
    assert [number_of(path) for path in SHIPPED] == NUMBERS  # sorted by name, as the page and most folders sort them
    assert RELEASED


@each
def test_every_link_ends_where_it_says(path: Path) -> None:
    flow = read(path)
    nodes = {node["id"]: node for node in flow["nodes"]}
    assert len(nodes) == len(flow["nodes"]) and flow["last_node_id"] >= max(nodes)
    ends = set()
    for ident, source, slot, target, place, kind in flow["links"]:
        out, into = nodes[source]["outputs"][slot], nodes[target]["inputs"][place]
        assert ident in out["links"] and into["link"] == ident
        assert out["type"] == kind and into["type"] in (kind, "*")
        ends.add(ident)
    assert len(ends) == len(flow["links"]) and flow["last_link_id"] >= max(ends)
    assert ends == {entry["link"] for node in nodes.values() for entry in node["inputs"]} - {None}
    assert ends == {ident for node in nodes.values() for out in node["outputs"] for ident in out["links"] or ()}


@each
def test_our_nodes_exist_and_are_stamped(path: Path) -> None:
    flow = read(path)
    mine = [node for node in flow["nodes"] if is_ours(node)]
    assert mine and {node["type"] for node in mine} <= own_ids()
    assert not [node["type"] for node in flow["nodes"] if node["type"] in own_ids() and not is_ours(node)]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", node["properties"]["ver"]) for node in mine)


@each
def test_a_note_says_which_files_go_where(path: Path) -> None:
    notes = [node["widgets_values"][0] for node in read(path)["nodes"] if node["type"] in NOTES]
    folders = ("models/ico_concepts", "models/dynaip")
    assert any("## Files" in text and any(folder in text for folder in folders) for text in notes)


@each
def test_nothing_hangs_on_one_machine(path: Path) -> None:
    flow = read(path)
    bare = [{**node, "properties": {**node["properties"], "models": []}} for node in flow["nodes"]]
    texts = list(strings({**flow, "nodes": bare}))
    assert not [text for text in texts if re.search(r"(^|[\s`'\"])(/\w|~/|[A-Za-z]:\\|file:)|\\\\|://", text)]


def test_public_model_files_have_a_download_link() -> None:
    """Where the page looks for it when the file is missing; names of the user's own files have none."""
    found = {}
    for path in SHIPPED:
        for node in read(path)["nodes"]:
            for model in node["properties"].get("models", ()):
                assert set(model) == {"name", "url", "directory"} and model["name"] in node["widgets_values"]
                assert re.fullmatch(r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/[\w./-]+", model["url"])
                assert model["url"].endswith(f"/{model['name']}")
                assert model["directory"] in LOADERS[node["type"]]
                found[number_of(path), node["type"]] = model["name"]
    loaders = {
        (number_of(path), node["type"]) for path in SHIPPED for node in read(path)["nodes"] if node["type"] in LOADERS
    }
    assert set(found) == loaders != set()


@each
def test_seeds_stand_still(path: Path) -> None:
    found = [v for node in read(path)["nodes"] for v in node["widgets_values"] if isinstance(v, str) and v in CONTROLS]
    assert set(found) <= {"fixed"}


@each
def test_no_node_covers_another(path: Path) -> None:
    nodes = read(path)["nodes"]
    boxes = [(*node["pos"], *node["size"], node["type"]) for node in nodes]
    for i, (x, y, w, h, name) in enumerate(boxes):
        for x2, y2, w2, h2, other in boxes[i + 1 :]:
            apart = x + w <= x2 or x2 + w2 <= x or y + h <= y2 - TITLE or y2 + h2 <= y - TITLE
            assert apart, f"{name} and {other}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_title_opens_under_the_page_s_bar(path: Path) -> None:
    flow = read(path)
    view = flow["extra"]["ds"]
    tops = [(node["pos"][1] - TITLE + view["offset"][1]) * view["scale"] for node in flow["nodes"]]
    assert min(tops) >= BAR


def test_every_workflow_has_a_thumbnail() -> None:
    for path in SHIPPED:
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.format == "JPEG"
            assert THUMBNAIL_PX[0] <= max(picture.size) <= THUMBNAIL_PX[1]
    assert {path.stem for path in (ROOT / "workflows").iterdir()} == {path.stem for path in SHIPPED}


def test_a_released_workflow_is_kept_for_ever() -> None:
    kept = [path.parent.name for path in RELEASED]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in kept)
    newest = max(kept, key=lambda version: [int(part) for part in version.split(".")])
    assert {path.name for path in RELEASED if path.parent.name == newest} == {path.name for path in SHIPPED}


def test_every_node_has_a_help_page() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "js" / "docs").glob("*.md")}
    assert set(pages) == own_ids() != set()
    for name, page in pages.items():
        assert page.startswith("# "), name
        assert all(f"## {part}" in page for part in ("Outputs", "Example", "What goes wrong")), name


def test_help_tables_are_narrow_enough_for_the_help_panel() -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "js" / "docs").glob("*.md")}
    rows = [(name, line) for name, text in pages.items() for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 100
    assert [(name, line) for name, line in rows if len(re.findall(r"(?<!\\)\|", line)) > MOST_COLUMNS + 1] == []


def test_every_input_is_on_its_help_page() -> None:
    inputs_of = own_inputs()
    assert set(inputs_of) == own_ids()
    assert "window" in inputs_of["DCIApply"]
    for name, inputs in inputs_of.items():
        page = (ROOT / "js" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert not [entry for entry in inputs if f"**{entry}**" not in page], name


def own_inputs() -> dict[str, list[str]]:
    """Input names of each node as its schema lists them; shared groups of inputs stand in functions."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "nodes").glob("*.py")]
    groups = {part.name: input_names(part) for tree in trees for part in tree.body if isinstance(part, ast.FunctionDef)}
    found: dict[str, list[str]] = {}
    for cls in (part for tree in trees for part in tree.body if isinstance(part, ast.ClassDef)):
        called = {ast.unparse(call.func) for call in ast.walk(cls) if isinstance(call, ast.Call)}
        found[cls.name] = input_names(cls) + [name for group in called & set(groups) for name in groups[group]]
    return {name: names for name, names in found.items() if name in own_ids()}


def input_names(tree: ast.AST) -> list[str]:
    """First literal of every `widget(kind, name)`, `text(name)`, `choice(name)`, `number(name)`, `Kind.Input(name)`."""
    names = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        maker = ast.unparse(call.func)
        if maker in ("widget", "text", "choice", "number") or maker.endswith(".Input"):
            place = 1 if maker == "widget" else 0
            if len(call.args) > place and isinstance(call.args[place], ast.Constant):
                names.append(str(call.args[place].value))
    return names
