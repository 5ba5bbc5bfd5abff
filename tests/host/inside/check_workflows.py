"""Every shipped and released workflow against the live node definitions: opens without missing nodes, values fit."""

from __future__ import annotations

import asyncio
import re
from functools import cache
from pathlib import Path
from typing import Any

from flows import as_prompt, read_workflows, server_nodes, troubles_of
from lab import PACK


def workflows() -> dict[str, dict[str, Any]]:
    """Every workflow of the pack under test."""
    return read_workflows(Path(PACK["nodes"].__file__).parents[1])


@cache
def definition(kind: str) -> dict[str, Any] | None:
    """What the server would say of that node; built-in extras are loaded where they are first needed."""
    import nodes

    if kind not in nodes.NODE_CLASS_MAPPINGS:
        for path in sorted((Path(nodes.__file__).parent / "comfy_extras").glob("nodes_*.py")):
            if re.search(rf'"{re.escape(kind)}"', path.read_text(encoding="utf-8")):
                asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    cls = nodes.NODE_CLASS_MAPPINGS.get(kind)
    return None if cls is None else {"input": cls.INPUT_TYPES(), "output": cls.RETURN_TYPES}


def test_every_workflow_opens_as_it_was_saved() -> None:
    flows = workflows()
    assert len(flows) >= 14
    found = {
        f"{name}: {node['type']} {node['id']}": troubles
        for name, flow in flows.items()
        for node in server_nodes(flow)
        if (troubles := troubles_of(node, definition(node["type"])))
    }
    assert found == {}


def test_no_shipped_workflow_uses_a_node_that_the_host_wants_to_drop() -> None:
    import nodes

    def is_leaving(kind: str) -> bool:
        assert definition(kind)
        return bool(getattr(nodes.NODE_CLASS_MAPPINGS[kind], "DEPRECATED", False))

    shipped = {name: flow for name, flow in workflows().items() if name.startswith("workflows/")}
    assert len(shipped) >= 9
    used = {node["type"] for flow in shipped.values() for node in server_nodes(flow)}
    assert sorted(filter(is_leaving, used)) == []


def test_a_moved_value_and_a_lost_link_would_show() -> None:
    flow = workflows()["workflows/03 sample with DCI in one node"]
    node = next(node for node in flow["nodes"] if node["type"] == "DCIDualBranchSampler")
    known = definition(node["type"])
    assert troubles_of(node, known) == []
    assert troubles_of({**node, "widgets_values": [*node["widgets_values"][1:], 7]}, known)
    assert troubles_of({**node, "inputs": [{**entry, "link": None} for entry in node["inputs"]]}, known)
    assert troubles_of(node, definition("NoSuchNode")) == ["the host has no such node"]


def test_the_server_would_accept_the_first_workflow() -> None:
    import execution

    flow = workflows()["workflows/01 first steps on the tiny world"]
    prompt = as_prompt(flow, {node["type"]: definition(node["type"]) for node in server_nodes(flow)})
    accepted, trouble, outputs, _ = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert accepted, trouble
    assert len(outputs) == 5
