"""Every shipped and released workflow against the live node definitions: opens without missing nodes, values fit."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import PACK

PAGE_ONLY = {"MarkdownNote", "Note"}  # nodes that the page has and the server does not
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEEDS = ("seed", "noise_seed")
FILES = ("ckpt_name", "lora_name", "control_net_name", "concept_name", "image")  # choices that are files


def workflows() -> list[tuple[str, dict[str, Any]]]:
    """(name, workflow) of every one that is shipped, and of every one that ever was."""
    root = Path(PACK["nodes"].__file__).parents[1]
    paths = sorted([*(root / "workflows").glob("*.json"), *(root / "tests" / "golden" / "workflows").glob("*/*.json")])
    assert paths
    return [(f"{path.parent.name}/{path.stem}", json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def definition(kind: str) -> Any:
    """The host's class of that node; built-in extras are loaded where they are first needed."""
    import nodes

    if kind not in nodes.NODE_CLASS_MAPPINGS:
        extras = Path(nodes.__file__).parent / "comfy_extras"
        for path in sorted(extras.glob("nodes_*.py")):
            if re.search(rf'"{re.escape(kind)}"', path.read_text(encoding="utf-8")):
                asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    return nodes.NODE_CLASS_MAPPINGS.get(kind)


def server_nodes() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """(place, node, class) of every node that the server must know."""
    for name, flow in workflows():
        for node in flow["nodes"]:
            if node["type"] not in PAGE_ONLY:
                yield f"{name}: {node['type']} {node['id']}", node, definition(node["type"])


def inputs_of(cls: Any) -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """name -> (type or choices, options, is required), in order."""
    groups = cls.INPUT_TYPES()
    return {
        name: (entry[0], entry[1] if len(entry) > 1 else {}, group == "required")
        for group in ("required", "optional")
        for name, entry in groups.get(group, {}).items()
    }


def is_widget(kind: Any, options: dict[str, Any]) -> bool:
    """Whether the page shows a field for this input."""
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


def fields_of(cls: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """(name, type or choices, options) of what `widgets_values` holds, in order; the page's own fields included."""
    fields: list[tuple[str, Any, dict[str, Any]]] = []
    for name, (kind, options, _) in inputs_of(cls).items():
        if not is_widget(kind, options):
            continue
        fields.append((name, kind, options))
        controlled = options.get("control_after_generate")
        if controlled or (controlled is None and kind == "INT" and name in SEEDS):
            fields.append((f"{name}, afterwards", ["fixed", "increment", "decrement", "randomize"], {}))
        if options.get("image_upload"):
            fields.append((f"{name}, upload", ["image"], {}))
    return fields


def trouble_with(value: Any, name: str, kind: Any, options: dict[str, Any]) -> str | None:
    """What is wrong with a field's value, or None."""
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if name in FILES:
        return None if isinstance(value, str) and value else f"{name} is {value!r}"
    if choices is not None:
        return None if value in choices else f"{name} is {value!r}, not one of {choices}"
    types = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}[kind]
    if not isinstance(value, types) or (kind in ("INT", "FLOAT") and isinstance(value, bool)):
        return f"{name} is {value!r}, a {kind} is expected"
    low, high = options.get("min"), options.get("max")
    if kind in ("INT", "FLOAT") and not (low is None or low <= value) & (high is None or value <= high):
        return f"{name} is {value!r}, outside {low}..{high}"
    return None


def test_every_node_of_every_workflow_exists() -> None:
    assert [place for place, _, cls in server_nodes() if cls is None] == []


def test_every_value_fits_its_field() -> None:
    for place, node, cls in server_nodes():
        fields, values = fields_of(cls), node["widgets_values"]
        assert len(values) == len(fields), f"{place}: {values} for {[name for name, _, _ in fields]}"
        found = [trouble_with(value, *field) for value, field in zip(values, fields, strict=True)]
        assert not any(found), f"{place}: {[each for each in found if each]}"


def test_every_input_exists_and_every_required_one_is_connected() -> None:
    for place, node, cls in server_nodes():
        known = inputs_of(cls)
        for entry in node["inputs"]:
            assert entry["name"] in known, f"{place} has no input {entry['name']}"
            kind = "COMBO" if isinstance(known[entry["name"]][0], list) else known[entry["name"]][0]
            assert entry["type"] == kind, f"{place}: {entry['name']} is {kind}, not {entry['type']}"
        linked = {entry["name"] for entry in node["inputs"] if entry["link"] is not None}
        needed = {n for n, (kind, options, required) in known.items() if required and not is_widget(kind, options)}
        assert needed <= linked, f"{place} lacks {needed - linked}"


def test_every_output_is_of_the_type_that_its_links_say() -> None:
    for place, node, cls in server_nodes():
        assert [out["type"] for out in node["outputs"]] == list(cls.RETURN_TYPES), place
