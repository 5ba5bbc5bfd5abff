"""The node that shows what DBIM did."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import sockets
from .fields import schema, widget
from .maps import draw_maps


class DBIMPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DBIMPreview",
            display_name="DBIM Preview",
            description="Shows where the concept (bright) and where the auxiliary branch (dark) made the picture: one "
            "row for each layer, one column for each step.",
            search_aliases=["attention maps", "branch weights"],
            inputs=[
                sockets.Record.Input("record", tooltip="Of Apply DCI or the DCI Dual-Branch Sampler."),
                io.Latent.Input("latent", tooltip="The sampler's result, so that this runs after it."),
                widget(io.Int, "cell", default=48, min=8, max=512, tooltip="Side of one map in the grid, px."),
            ],
            outputs=[io.Image.Output("image", display_name="image")],
        )

    @classmethod
    def execute(cls, record: Any, latent: Any, cell: int) -> io.NodeOutput:
        return io.NodeOutput(draw_maps(record.weights, cell))


NODES: list[type[io.ComfyNode]] = [DBIMPreview]
