"""The node that shows what DBIM did."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import node_ui, sockets
from .fields import schema, widget
from .host.page.pictures import maps_for_page
from .maps import draw_maps
from .node_output import node_output


class DBIMPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "look and measure",
            node_id="DBIMPreview",
            display_name="DBIM Preview",
            description="Shows where the concept (bright) and where the auxiliary branch (dark) made the picture: on "
            "the node over the picture, step by step; as an image, one row for each layer, one column for each step.",
            search_aliases=["attention maps", "branch weights", "heatmap"],
            is_output_node=True,
            inputs=[
                sockets.Record.Input("record", tooltip="Of Apply DCI or the DCI Dual-Branch Sampler."),
                io.Latent.Input("latent", tooltip="The sampler's result, so that this runs after it."),
                widget(io.Int, "cell", default=48, min=8, max=512, tooltip="Side of one map in the grid, px."),
                io.Image.Input(
                    "picture", optional=True, tooltip="The decoded picture, to lay the maps over; else a rough one."
                ),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The grid of maps, with its rows' names.")],
        )

    @classmethod
    def execute(cls, record: Any, latent: Any, cell: int, picture: Any = None) -> io.NodeOutput:
        shown = maps_for_page(record.weights, latent["samples"], picture)
        told = node_ui.seen_maps(
            [sigma for sigma, _ in record.weights], "DCI did not act in this run, so there are no maps"
        )
        return node_output(draw_maps(record.weights, cell), ui=node_ui.with_facts(told, maps=shown))


NODES: list[type[io.ComfyNode]] = [DBIMPreview]
