"""What a node gives back: its values, and what it says of them, which pages that are opened later are told too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from .host.page import events, sayings


def node_output(*values: Any, ui: Mapping[str, Any]) -> io.NodeOutput:
    """A node's outputs with its `ui`, one of `node_ui`."""
    sayings.keep(events.place_in_work(), ui)
    return io.NodeOutput(*values, ui=ui)
