"""Nodes of image prompts: load an adapter, let a model read a subject, see where it is read."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import node_ui, sockets
from .fields import schema, text, widget
from .host.dynaip import adapter_files, adapter_loading
from .host.dynaip.applying import EVERYWHERE, PLACES, Pictures, Reading, apply_subject
from .host.page import sayings
from .maps import draw_readings
from .node_output import node_output


class DynaIPLoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = adapter_files.adapter_names()
        return schema(
            "image prompt",
            node_id="DynaIPLoadAdapter",
            display_name="Load DynaIP Adapter",
            description="Loads an image prompt adapter from models/dynaip: one trained with this pack, or an XLabs or "
            "InstantX FLUX IP-Adapter as safetensors (InstantX: with SigLIP's pooling head, see the help). No DynaIP "
            "weights are public.",
            search_aliases=["ip-adapter", "ipadapter", "image prompt"],
            inputs=[
                widget(
                    io.Combo,
                    "adapter_name",
                    options=names,
                    default=names[-1],
                    tooltip="A .safetensors file in models/dynaip. Each fits one model family and one vision model.",
                )
            ],
            outputs=[
                sockets.Adapter.Output("adapter", display_name="adapter", tooltip="For Apply DynaIP."),
                io.String.Output("facts", display_name="facts", tooltip="Its model family, vision model and size."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter_name: str) -> str:
        return adapter_files.stamp(adapter_name)

    @classmethod
    def execute(cls, adapter_name: str) -> io.NodeOutput:
        adapter = adapter_loading.load_adapter(adapter_name)
        facts = adapter.facts()
        return node_output(adapter, facts, ui=node_ui.said(*facts.splitlines()))


class DynaIPApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "image prompt",
            node_id="DynaIPApply",
            display_name="Apply DynaIP",
            description="Lets a model read one subject from pictures of it, without training. Chain it for more "
            "subjects. A patch on a clone: any sampler node, beside any LoRA or ControlNet.",
            search_aliases=[
                "ip-adapter",
                "ipadapter",
                "image prompt",
                "reference",
                "subject",
                "identity",
                "personalization",
            ],
            inputs=[
                io.Model.Input("model", tooltip="Flux, SD3, SD3.5, Qwen-Image or the tiny flow model."),
                io.ClipVision.Input("clip_vision", tooltip="The vision model that the adapter was trained with."),
                sockets.Adapter.Input("adapter", tooltip="Of Load DynaIP Adapter."),
                io.Image.Input("images", tooltip="One or more pictures of the subject; all are read together."),
                *dials(),
                *places(),
            ],
            outputs=[
                io.Model.Output("patched_model", display_name="model", tooltip="The model that reads the subject."),
                sockets.Readings.Output(
                    "record", display_name="record", tooltip="What the next run reads, for DynaIP Preview."
                ),
                io.String.Output("told", display_name="granularity", tooltip="How much of each CLIP level was read."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, clip_vision: Any, adapter: Any, images: Any, **given: Any) -> io.NodeOutput:
        pictures = Pictures(images, given.get("subject_mask"), given["granularity"], given.get("level_weights") or "")
        reading = Reading(
            scale=given["scale"],
            text_scale=given["text_scale"],
            start=given["start"],
            end=given["end"],
            blocks=given["blocks"],
            where=given["where"],
            region=given.get("region"),
            noun=given.get("noun") or "",
            prompt=given.get("prompt") or "",
            clip=given.get("clip"),
        )
        ready, record, told = apply_subject(model, clip_vision, adapter, pictures, reading)
        record.on_warning = sayings.teller(lambda run: node_ui.said(warnings=run.warnings))
        return node_output(ready, record, told, ui=node_ui.reads(len(images), given, told))


def dials() -> list[Any]:
    """How strongly, when and in which blocks a subject is read."""
    return [
        widget(
            io.Float,
            "scale",
            default=1.0,
            min=0.0,
            max=10.0,
            step=0.05,
            tooltip="How strongly the picture reads the subject: 1 as trained, 0 is off, 0.7 to 1 usual.",
        ),
        widget(
            io.Float,
            "text_scale",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How far the text rows read it too. 0 is the method's decoupling: identity without the reference's "
            "pose and light. 1 as in training.",
        ),
        widget(
            io.Float,
            "granularity",
            default=0.0,
            min=-1.0,
            max=1.0,
            step=0.05,
            tooltip="-1 texture and local detail, 1 meaning and a looser likeness, 0 as the adapter's router decides.",
        ),
        widget(
            io.Float,
            "start",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Part of the schedule, 0 at its noisy start, from which on the subject is read.",
        ),
        widget(
            io.Float,
            "end",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Part of the schedule before which it is read; 1 to the end.",
        ),
        text("blocks", default="all", tooltip="Blocks that read it: all, double, single, or as double0-9 single3."),
        widget(
            io.Combo,
            "where",
            options=list(PLACES),
            default=EVERYWHERE,
            tooltip="everywhere; region: where the region mask is white; noun: where the model itself draws the noun.",
        ),
    ]


def places() -> list[Any]:
    """Which part of the pictures is the subject, and where in the new picture it stands."""
    return [
        io.Mask.Input(
            "subject_mask",
            optional=True,
            tooltip="White where the subject is in its pictures, at any size; the rest is greyed out before reading.",
        ),
        io.Mask.Input(
            "region",
            optional=True,
            tooltip="White where the subject goes in the new picture, at any size; for where = region.",
        ),
        io.Clip.Input("clip", optional=True, tooltip="The CLIP that encodes the prompt; for where = noun."),
        text("noun", optional=True, tooltip="The subject's word in the prompt, such as fish; for where = noun."),
        text(
            "prompt",
            optional=True,
            multiline=True,
            tooltip="The prompt that the sampler's positive encodes, word for word; for where = noun.",
        ),
        text(
            "level_weights",
            optional=True,
            advanced=True,
            tooltip="Share of each level of the vision model from fine to coarse, such as 0 0 1; empty: the router's.",
        ),
    ]


class DynaIPPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "image prompt",
            node_id="DynaIPPreview",
            display_name="DynaIP Preview",
            description="Shows where each subject is read (bright: strongly): one row for each subject and block, one "
            "column for each step.",
            search_aliases=["attention maps", "ip-adapter"],
            inputs=[
                sockets.Readings.Input("record", tooltip="Of the last Apply DynaIP in the chain."),
                io.Latent.Input("latent", tooltip="The sampler's result, so that this runs after it."),
                widget(io.Int, "cell", default=48, min=8, max=512, tooltip="Side of one map in the grid, px."),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="The grid of maps, with its rows' names.")],
        )

    @classmethod
    def execute(cls, record: Any, latent: Any, cell: int) -> io.NodeOutput:
        told = node_ui.seen_maps(
            sorted({sigma for sigma, _, _ in record.strengths}), next(iter(record.warnings), "no subject was read")
        )
        return node_output(draw_readings(record.strengths, cell), ui=told)


NODES: list[type[io.ComfyNode]] = [DynaIPLoadAdapter, DynaIPApply, DynaIPPreview]
