"""The nodes, listed."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..dci_core.errors import PackError
from . import (
    concept_nodes,
    dynaip_nodes,
    picture_nodes,
    preview_nodes,
    sample_nodes,
    score_nodes,
    sweep_nodes,
    tiny_nodes,
    train_nodes,
)

NODES: list[type[io.ComfyNode]] = [
    *train_nodes.NODES,
    *picture_nodes.NODES,
    *concept_nodes.NODES,
    *sample_nodes.NODES,
    *preview_nodes.NODES,
    *tiny_nodes.NODES,
    *score_nodes.NODES,
    *sweep_nodes.NODES,
    *dynaip_nodes.NODES,
]


for kind in (PackError, *PackError.__subclasses__()):
    kind.__module__ = "ico_dci"  # the page names an error's kind by it, and the host loads packs under their whole path


class Extension(ComfyExtension):
    """What the host asks for our nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack."""
        return NODES
