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


def workflow_in_work() -> str:
    """Id of the workflow whose prompt is running, as the page saved it; empty for prompts that come without one."""
    queue = getattr(server(), "prompt_queue", None)
    for item in list(getattr(queue, "currently_running", {}).values()):
        more = item[3] if len(item) > 3 and isinstance(item[3], dict) else {}
        workflow = (more.get("extra_pnginfo") or {}).get("workflow") or {}
        return str(workflow.get("id") or "")
    return ""


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
