"""Messages to the page while a node runs; without a server, as in tests, nobody hears them and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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


def workflow_in_work() -> str:
    """Id of the workflow whose prompt is running, as the page saved it; empty for prompts that come without one."""
    _, _, more = running()
    workflow = (more.get("extra_pnginfo") or {}).get("workflow") or {}
    return str(workflow.get("id") or "")


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


def teller(told_by: Callable[[Any], dict[str, Any]]) -> Callable[[Any], None]:
    """What sends a node's `ui` of something that happened after the node ran, to the node that runs now."""
    node = node_in_work()

    def send(what: Any) -> None:
        tell("said", node=node, output=told_by(what))

    return send
