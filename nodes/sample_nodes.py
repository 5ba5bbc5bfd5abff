"""Nodes that sample: the prompt pair, the model patch, the one-node sampler, the layer mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..dci_core.attention.layers import PRESETS, LayerMask
from ..dci_core.text.stand_ins import AUTO
from . import node_ui, sockets
from .dci_fields import dci_inputs, patched, settings_of, sharing_inputs
from .fields import schema, text, widget
from .host import sampling
from .host.dci import pairs
from .host.dci.plan import DbimLayers
from .host.page import sayings
from .host.tiny.words import of_prompts
from .node_output import node_output
from .several_fields import check_single, in_order, several_inputs

CUSTOM = "custom"


class DCIPromptPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "sampling",
            node_id="DCIPromptPair",
            display_name="DCI Prompt Pair",
            description="Encodes a prompt that holds a concept, and the same scene with an ordinary noun in its place. "
            "Connect positive and plan; the auxiliary prompt never reaches a sampler by itself.",
            search_aliases=["dual branch prompt", "dci conditioning", "subject", "personalization"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that Load ICO Concept or ICO Train Concept gives."),
                sockets.Concept.Input("concept", tooltip="The concept that DCI keeps faithful."),
                text(
                    "prompt",
                    multiline=True,
                    tooltip="The scene, with the concept's trigger and noun in it, such as: mydog dog in the snow.",
                ),
                text(
                    "auxiliary_noun",
                    default=AUTO,
                    tooltip="Ordinary word of another kind that stands in for the concept; one that the model draws "
                    "easily in any scene. auto: cat, or the next of dog, bird and car where the concept or the prompt "
                    "is of that kind.",
                ),
                text(
                    "auxiliary_prompt",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="The auxiliary prompt in full, with the auxiliary noun in it. Empty: made from the prompt.",
                ),
                *several_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", display_name="positive", tooltip="The prompt, for the sampler's positive."
                ),
                sockets.Plan.Output(
                    "plan", display_name="plan", tooltip="Both prompts, for Apply DCI or the DCI sampler."
                ),
                io.String.Output(
                    "found", display_name="found tokens", tooltip="Where the concept and the noun were found."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, clip: Any, concept: Any, prompt: str, auxiliary_noun: str, auxiliary_prompt: str = "", **several: Any
    ) -> io.NodeOutput:
        first, second = in_order(concept, prompt, (auxiliary_noun, auxiliary_prompt or ""), several)
        if second is None and first.region is None:
            check_single(prompt)
            pair = pairs.make_pair(clip, concept, prompt, first.noun, auxiliary_prompt or "")
            return node_output(*pair, ui=pair_told(pair, [first]))
        each = [first] if second is None else [first, second]
        pair = pairs.make_several(clip, each, prompt, auxiliary_prompt or "")
        return node_output(*pair, ui=pair_told(pair, each))


def pair_told(pair: tuple[Any, Any, str], placed: Sequence[pairs.Placed]) -> dict[str, list[Any]]:
    """The `ui` of a pair: both prompts, what was found in them, and words that a small world does not know."""
    _, plan, found = pair
    unknown = of_prompts(placed[0].concept.family, plan.texts, [one.concept.trigger for one in placed])
    return node_ui.paired(plan.texts, [(one.concept.phrase, one.noun) for one in placed], found, unknown)


class DCIApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "sampling",
            node_id="DCIApply",
            display_name="Apply DCI",
            description="Gives a model the dual branch, so that any sampler node of the host or another pack uses it. "
            "The sampler's positive must be that of the same DCI Prompt Pair.",
            search_aliases=["dual branch", "dbim", "subject", "identity"],
            inputs=[
                io.Model.Input("model", tooltip="The model that knows the concept."),
                sockets.Plan.Input("plan", tooltip="The plan of DCI Prompt Pair."),
                *dci_inputs(),
                *sharing_inputs(),
            ],
            outputs=[
                io.Model.Output(
                    "patched_model", display_name="model", tooltip="The model with DCI, for any sampler node."
                ),
                sockets.Record.Output(
                    "record", display_name="record", tooltip="What the next run does, for DBIM Preview."
                ),
            ],
        )

    @classmethod
    def execute(cls, model: Any, plan: Any, **dci: Any) -> io.NodeOutput:
        ready, record = patched(model, plan, dci)
        settings = settings_of(model, dci)
        record.on_end = sayings.teller(lambda run: node_ui.ran(run, settings))
        return node_output(ready, record, ui=node_ui.will_run(settings))


class DCIDualBranchSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names, schedulers = sampling.names()
        return schema(
            "sampling",
            node_id="DCIDualBranchSampler",
            display_name="DCI Dual-Branch Sampler",
            description="KSampler with DCI in it: one node from noise to picture.",
            search_aliases=["ksampler", "dual branch", "subject", "personalization"],
            inputs=[
                io.Model.Input("model", tooltip="The model that knows the concept."),
                sockets.Plan.Input("plan", tooltip="The plan of DCI Prompt Pair."),
                io.Conditioning.Input("positive", tooltip="The positive of the same DCI Prompt Pair."),
                io.Conditioning.Input("negative", tooltip="What the picture should not be, as for KSampler."),
                io.Latent.Input("latent_image", tooltip="Empty latent, or a picture to start from."),
                widget(
                    io.Int,
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Seed of the noise; the auxiliary branch has a stream of its own, derived from it.",
                ),
                widget(io.Int, "steps", default=30, min=1, max=10000, tooltip="Number of denoising steps."),
                widget(
                    io.Float,
                    "cfg",
                    default=6.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance scale. Shared guidance needs enough steps for it; the log warns.",
                ),
                widget(
                    io.Combo, "sampler_name", options=names, tooltip="Any of the host's samplers; euler is the paper's."
                ),
                widget(io.Combo, "scheduler", options=schedulers, tooltip="How the noise falls over the steps."),
                widget(
                    io.Float,
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 starts from pure noise. Below the window's end DCI cannot act; the log says so.",
                ),
                *dci_inputs(),
                *sharing_inputs(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="latent", tooltip="The concept's picture."),
                io.Latent.Output("auxiliary", display_name="auxiliary", tooltip="The auxiliary branch's last guess."),
                sockets.Record.Output("record", display_name="record", tooltip="What this run did, for DBIM Preview."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        plan: Any,
        positive: Any,
        negative: Any,
        latent_image: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float = 1.0,
        **dci: Any,
    ) -> io.NodeOutput:
        ready, record = patched(model, plan, dci)
        how = sampling.SamplerChoice(seed, steps, cfg, sampler_name, scheduler, denoise)
        latent = sampling.sample(ready, positive, negative, latent_image, how)
        told = node_ui.ran(record, settings_of(model, dci))
        return node_output(latent, sampling.auxiliary_latent(record, latent), record, ui=told)


class DBIMLayerMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "sampling",
            node_id="DBIMLayerMask",
            display_name="DBIM Layer Mask",
            description="Chooses the cross-attention layers that integrate both branches, and a region of the picture.",
            search_aliases=["block weights", "layers", "region", "attention mask"],
            inputs=[
                widget(
                    io.Combo,
                    "preset",
                    options=[*PRESETS, CUSTOM],
                    default="all",
                    tooltip="coarse layers decide what goes where, fine ones only lean; custom reads the text below.",
                ),
                text(
                    "text",
                    default="in4-8:1.0 mid:0.5 out3-5:0",
                    tooltip="With custom: blocks and shares, such as in4-8:1.0 mid:0.5 out3-5:0, or all mid:0. Share 0 "
                    "leaves a layer plain, 1 integrates it fully.",
                ),
                io.Mask.Input("region", optional=True, tooltip="Where in the picture DCI acts; white is fully."),
            ],
            outputs=[
                sockets.Layers.Output("layers", display_name="layers", tooltip="For Apply DCI or the DCI sampler.")
            ],
        )

    @classmethod
    def execute(cls, preset: str, text: str, region: Any = None) -> io.NodeOutput:
        mask = LayerMask(text if preset == CUSTOM else preset)
        return node_output(DbimLayers(mask, region), ui=node_ui.layers_told(mask, region))


NODES: list[type[io.ComfyNode]] = [DCIPromptPair, DCIApply, DCIDualBranchSampler, DBIMLayerMask]
