"""The node of the tiny world."""

from __future__ import annotations

from comfy_api.latest import io

from .fields import schema


class DCILoadTinyWorld(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DCILoadTinyWorld",
            display_name="Load Tiny World",
            description="A complete small text-to-image model that comes with this pack: 128 px pictures on any CPU, "
            "nothing to download. For trying things out.",
            search_aliases=["demo model", "small model"],
            inputs=[],
            outputs=[
                io.Model.Output("model", display_name="model"),
                io.Clip.Output("clip", display_name="clip"),
                io.Vae.Output("vae", display_name="vae"),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .host.tiny import load_world

        return io.NodeOutput(*load_world())


NODES: list[type[io.ComfyNode]] = [DCILoadTinyWorld]
