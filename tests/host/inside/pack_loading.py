"""Other packs as this host loads them: looked for in its custom_nodes under the names of their repositories."""

from __future__ import annotations

import asyncio
import importlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from marks import Absent
from neighbours import Neighbour


class Unloadable(Absent):
    """The pack is there, and this host cannot import it."""


@cache
def with_server() -> None:
    """The host's server, which many packs ask for their routes when they are imported; it is never started."""
    kept = sys.path[:]
    sys.path[:] = [path for path in kept if Path(path).name != "comfy"]  # `nodes` of older hosts puts it in front
    server = importlib.import_module("server")
    sys.path[:] = kept
    server.PromptServer(asyncio.new_event_loop())


@cache
def nodes_of(folder: str) -> dict[str, Any]:
    """Every node of a pack by its id. Raises Absent where it is not in custom_nodes."""
    import folder_paths
    import nodes

    path = Path(folder_paths.get_folder_paths("custom_nodes")[0]) / folder
    if not path.is_dir():
        raise Absent(f"no {folder} in this host's custom_nodes")
    with_server()
    heard: list[str] = []
    kept = nodes.logging.warning
    nodes.logging.warning = lambda text, *rest, **more: heard.append(str(text).strip())
    before = dict(nodes.NODE_CLASS_MAPPINGS)
    try:
        is_loaded = asyncio.run(nodes.load_custom_node(str(path), module_parent="custom_nodes"))
    finally:
        nodes.logging.warning = kept
    if not is_loaded:
        said = [line for text in heard for line in text.splitlines() if "Error" in line or "unique" in line]
        raise Unloadable(f"this host cannot load it: {said[-1].strip() if said else 'no reason given'}")
    return {name: kind for name, kind in nodes.NODE_CLASS_MAPPINGS.items() if before.get(name) is not kind}


@cache
def with_extras(name: str) -> None:
    """One file of the host's extra nodes, which packs look up by id."""
    import nodes

    path = Path(nodes.__file__).parent / "comfy_extras" / f"{name}.py"
    asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))


@dataclass(frozen=True)
class PackNode(Neighbour):
    """A node of a pack: `module` is the pack's folder, `name` the node's id; an empty id leaves the model as it is."""

    def kind(self) -> Any:
        """The node's class."""
        return nodes_of(self.module)[self.name]

    def on(self, model: Any) -> Any:
        """The model behind the node."""
        if not self.name:
            nodes_of(self.module)
            return model
        return super().on(model)
