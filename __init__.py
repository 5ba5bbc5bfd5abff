"""ICO + DCI for ComfyUI: the entry point, and nothing else."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./js"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """The extension that lists our nodes; imported here so that loading the pack costs nothing."""
    from .nodes import Extension
    from .nodes.host.page.routes import register

    register()
    return Extension()
