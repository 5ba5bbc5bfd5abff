"""Messages to the page while a node runs; without a server, as in tests, nobody hears them and nothing else changes."""

from __future__ import annotations

from typing import Any

MARK = "ico_dci_mark"  # property of a node


def server() -> Any | None:
    """The host's server; None where the pack runs without one."""
    import sys

    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def node_in_work() -> str:
    """Id of the node that the host is executing, as the page knows it; empty outside a run."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:
        return ""
    context = get_executing_context()
    return str(context.node_id) if context else ""


def kind_in_work() -> str:
    """Kind of the node that the host is executing, such as `KSampler`; empty where the queue does not tell."""
    _, prompt, _ = running()
    return str((prompt.get(node_in_work()) or {}).get("class_type") or "")


def place_in_work() -> dict[str, str]:
    """{"node", "mark"}: which node of a page messages of the node in work are for.

    mark  what the page wrote into that node (`js/parts/marks.js`); empty for a prompt that comes without a workflow
    """
    _, _, more = running()
    node = node_in_work()
    try:
        return {"node": node, "mark": mark_of(more["extra_pnginfo"]["workflow"], node)}
    except (KeyError, TypeError, AttributeError):  # whatever a program sends as a workflow, the run goes on
        return {"node": node, "mark": ""}


def mark_of(workflow: dict[str, Any], node: str) -> str:
    """The mark of a node of a saved workflow: `12`, or `4:12` inside the subgraph that node 4 is; empty without one."""
    subgraphs = {one["id"]: one for one in workflow.get("definitions", {}).get("subgraphs", [])}
    graph, found = workflow, dict[str, Any]()
    for step in node.split(":"):
        found = next((one for one in graph.get("nodes", []) if str(one["id"]) == step), {})
        graph = subgraphs.get(found.get("type"), {})
    return str(found.get("properties", {}).get(MARK, ""))


def running() -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(id, nodes by their ids, what else came with it) of the prompt that the host's queue runs; empty without one."""
    queue = getattr(server(), "prompt_queue", None)
    for _, ident, prompt, more, *_ in list(getattr(queue, "currently_running", {}).values()):
        return ident, prompt, more if isinstance(more, dict) else {}
    return "", {}, {}


def tell(event: str, **facts: Any) -> None:
    """Sends `ico_dci.<event>` to every page that is open."""
    host = server()
    if host is not None:
        host.send_sync(f"ico_dci.{event}", facts)
