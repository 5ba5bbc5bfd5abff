"""Workflows as the page saves them, held against node definitions as the server's `/object_info` gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Definition = Mapping[str, Any]  # {"input": {"required": {...}, "optional": {...}}, "output": [...]}

PAGE_ONLY = {"MarkdownNote", "Note"}  # nodes that the page has and the server does not
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEEDS = ("seed", "noise_seed")
AFTERWARDS = ["fixed", "increment", "decrement", "randomize"]
FILES = (  # choices that are files
    "ckpt_name", "lora_name", "control_net_name", "concept_name", "image", "folder", "unet_name", "clip_name",
    "clip_name1", "clip_name2", "vae_name",
)  # fmt: skip


def read_workflows(root: Path) -> dict[str, dict[str, Any]]:
    """Every workflow of the pack, the shipped ones and all that ever were, by folder and name."""
    paths = sorted([*(root / "workflows").glob("*.json"), *(root / "tests" / "golden" / "workflows").glob("*/*.json")])
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8")) for path in paths}


def server_nodes(flow: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The nodes that the server must know."""
    return [node for node in flow["nodes"] if node["type"] not in PAGE_ONLY]


def inputs_of(definition: Definition) -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """name -> (type or choices, options, is required), in order."""
    return {
        name: (entry[0], entry[1] if len(entry) > 1 else {}, group == "required")
        for group in ("required", "optional")
        for name, entry in definition["input"].get(group, {}).items()
    }


def is_widget(kind: Any, options: Mapping[str, Any]) -> bool:
    """Whether the page shows a field for this input."""
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


def fields_of(definition: Definition) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(name, type or choices, options) of what `widgets_values` holds, in order; fields that only the page has are
    called after their input, with a blank in the name.
    """
    for name, (kind, options, _) in inputs_of(definition).items():
        if not is_widget(kind, options):
            continue
        yield name, kind, options
        controlled = options.get("control_after_generate")
        if controlled or (controlled is None and kind == "INT" and name in SEEDS):
            yield f"{name} afterwards", AFTERWARDS, {}
        if options.get("image_upload"):
            yield f"{name} upload", ["image"], {}


def trouble_with(value: Any, name: str, kind: Any, options: Mapping[str, Any]) -> str | None:
    """What is wrong with a field's value, or None."""
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if name in FILES:
        return None if isinstance(value, str) and value else f"{name} is {value!r}"
    if choices is not None:
        return None if value in choices else f"{name} is {value!r}, not one of {choices}"
    types = {"INT": (int,), "FLOAT": (int, float), "STRING": (str,), "BOOLEAN": (bool,)}[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "BOOLEAN"):
        return f"{name} is {value!r}, a {kind} is expected"
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return f"{name} is {value!r}, outside {options.get('min')}..{options.get('max')}"
    return None


def troubles_of(node: Mapping[str, Any], definition: Definition | None) -> list[str]:
    """Everything that would make the page show this node otherwise than it was saved."""
    if definition is None:
        return ["the host has no such node"]
    known, fields, values = inputs_of(definition), list(fields_of(definition)), node["widgets_values"]
    later = fields[len(values) :]  # came after the workflow was saved; the page shows their defaults
    if len(values) > len(fields) or not all(name in known and not known[name][2] for name, _, _ in later):
        return [f"{len(values)} values for the fields {[name for name, _, _ in fields]}"]
    found = [trouble_with(value, *field) for value, field in zip(values, fields, strict=False)]
    for entry in node["inputs"]:
        kind = known.get(entry["name"], (None,))[0]
        if ("COMBO" if isinstance(kind, list) else kind) != entry["type"]:
            found.append(f"input {entry['name']} is {kind}, not {entry['type']}")
    linked = {entry["name"] for entry in node["inputs"] if entry["link"] is not None}
    needed = {name for name, (kind, options, required) in known.items() if required and not is_widget(kind, options)}
    found += [f"input {name} is not connected" for name in sorted(needed - linked)]
    came, gives = [out["type"] for out in node["outputs"]], list(definition["output"])
    found += (
        [] if came == gives[: len(came)] else [f"outputs are {gives}, not {came}"]
    )  # newer hosts add some at the end
    return [each for each in found if each]


def as_prompt(flow: Mapping[str, Any], definitions: Mapping[str, Definition]) -> dict[str, Any]:
    """The workflow as the page sends it to `/prompt`."""
    links = {link[0]: [str(link[1]), link[2]] for link in flow["links"]}
    prompt = {}
    for node in server_nodes(flow):
        names = [name for name, _, _ in fields_of(definitions[node["type"]])]
        values = {n: v for n, v in zip(names, node["widgets_values"], strict=False) if " " not in n}
        wires = {entry["name"]: links[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": {**values, **wires}}
    return prompt
