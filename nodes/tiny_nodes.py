"""The node of the tiny world."""

from __future__ import annotations

from comfy_api.latest import io

from ..dci_core.tiny.world.concepts import CONCEPTS
from . import node_ui
from .fields import schema, widget
from .host.tiny.flow import load_flow
from .host.tiny.unet import example_pictures, load_world
from .node_output import node_output

UNET, FLOW = "unet", "flow"
VARIED, HOME = "varied", "home"


class DCILoadTinyWorld(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [concept.name for concept in CONCEPTS]
        return schema(
            "tiny world",
            node_id="DCILoadTinyWorld",
            display_name="Load Tiny World",
            description="A complete small text-to-image model that comes with this pack: 128 px pictures on any CPU, "
            "nothing to download. With pictures of a thing that it has never seen, to train on or to read.",
            search_aliases=["demo model", "small model", "example", "test model"],
            inputs=[
                widget(
                    io.Combo,
                    "example",
                    options=names,
                    default=names[0],
                    tooltip="Which unseen thing the example pictures show; the word in its name is its noun.",
                ),
                widget(
                    io.Combo,
                    "kind",
                    options=[UNET, FLOW],
                    default=UNET,
                    optional=True,
                    tooltip="unet: a small U-Net, for concepts and DCI. flow: a small Flux with its own vision model, "
                    "for these and DynaIP.",
                ),
                widget(
                    io.Combo,
                    "references",
                    options=[VARIED, HOME],
                    default=VARIED,
                    optional=True,
                    tooltip="Where the example pictures are taken. varied: in five places. home: all in the place "
                    "where such things mostly are; then the concept clings to it, and DCI has something to win.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="For Train or any sampler; 128 px pictures."),
                io.Clip.Output("clip", display_name="clip", tooltip="Its text encoder."),
                io.Vae.Output("vae", display_name="vae", tooltip="Its codec between pictures and latents."),
                io.Image.Output(
                    "pictures", display_name="example pictures", tooltip="Of the chosen thing, to train on."
                ),
                io.String.Output("noun", display_name="noun", tooltip="The thing's ordinary word."),
                io.ClipVision.Output(
                    "clip_vision", display_name="clip vision", tooltip="Kind flow alone: its vision model."
                ),
            ],
        )

    @classmethod
    def execute(cls, example: str, kind: str = UNET, references: str = VARIED) -> io.NodeOutput:
        thing = next(concept for concept in CONCEPTS if concept.name == example)
        *world, vision = load_flow() if kind == FLOW else (*load_world(), None)
        pictures, noun = example_pictures(thing, references), thing.thing.noun
        where = ", all in one place" if references == HOME else ""
        told = node_ui.said(
            f"{len(pictures)} pictures of a {noun} that the model has never seen{where}",
            "simple shapes at 128 px: real photographs are beyond this world, use SD 1.x or SDXL for them",
        )
        return node_output(*world, pictures, noun, vision, ui=told)


NODES: list[type[io.ComfyNode]] = [DCILoadTinyWorld]
