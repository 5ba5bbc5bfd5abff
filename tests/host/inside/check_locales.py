"""The translations in the host: they cover what the nodes say now, and the host serves them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from check_nodes import listed
from lab import PACK

RECORD = "tests/golden/english.json"


def root() -> Path:
    """The pack under test."""
    return Path(PACK["nodes"].__file__).parents[1]


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every text in nested messages."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def page_key(name: str) -> str:
    """The key under which the page looks a name up."""
    return name.replace(".", "_")


def entry(name: str, tooltip: str | None) -> dict[str, str]:
    """What the page shows of an input or an output."""
    return {"name": name, **({"tooltip": tooltip} if tooltip else {})}


def said() -> dict[str, Any]:
    """Every text that the nodes show, in the form of the page's messages."""
    told: dict[str, Any] = {"nodeCategories": {}, "nodeDefs": {}}
    for name, node in listed().items():
        info = node.GET_NODE_INFO_V1()
        told["nodeCategories"].update({page_key(piece): piece for piece in info["category"].split("/")})
        inputs = {
            page_key(key): entry(options.get("display_name") or key, options.get("tooltip"))
            for group in ("required", "optional")
            for key, (_, *rest) in info["input"].get(group, {}).items()
            for options in [rest[0] if rest else {}]
        }
        shown = zip(info["output_name"], info["output_tooltips"], strict=True)
        outputs = {str(i): entry(*both) for i, both in enumerate(shown)}
        told["nodeDefs"][page_key(name)] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": inputs,
            "outputs": outputs,
        }
    return told


def test_the_translated_english_is_what_the_nodes_say_now() -> None:
    now = dict(flat(said()))
    kept = dict(flat(json.loads((root() / RECORD).read_text(encoding="utf-8"))))
    changed = [f"{path}: {text}" for path, text in now.items() if kept.get(path) != text]
    assert not changed, f"write into {RECORD}, and its translation into every folder of locales:\n" + "\n".join(changed)
    gone = sorted(set(kept) - set(now))
    assert not gone, f"remove from {RECORD}, and from every folder of locales:\n" + "\n".join(gone)


def test_the_host_serves_every_translation() -> None:
    import folder_paths
    from app.custom_node_manager import CustomNodeManager

    locales = root() / "locales"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(locales, Path(folder) / "ico-dci" / "locales")
        kept = folder_paths.folder_names_and_paths["custom_nodes"]
        folder_paths.folder_names_and_paths["custom_nodes"] = ([folder], kept[1])
        try:
            served = CustomNodeManager().build_translations()
        finally:
            folder_paths.folder_names_and_paths["custom_nodes"] = kept
    wanted = {path for path, _ in flat(said())}
    assert sorted(served) == sorted(path.name for path in locales.iterdir())
    for language, messages in served.items():
        came = dict(flat(messages))
        assert wanted <= set(came), language
        window = json.loads((locales / language / "nodeDefs.json").read_text(encoding="utf-8"))["DCIApply"]["inputs"]
        assert came["nodeDefs.DCIApply.inputs.window.name"] == window["window"]["name"], language
