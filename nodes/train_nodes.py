"""The node that trains a concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..dci_core.ico.memory import AS_SET
from ..dci_core.ico.precision import AUTO
from ..dci_core.ico.samples import COVER_PROMPT
from ..dci_core.ico.settings import IcoSettings
from ..dci_core.text.captions import read_caption, with_place
from . import node_ui, sockets
from .fields import schema
from .host.concept.apply import with_concept
from .host.ico.planned_prompts import PlannedPrompt, connected_pairs
from .host.ico.samples import Samples, no_picture
from .host.ico.training import Lesson, train_concept
from .host.page.live import live_training
from .maps import draw_losses
from .node_output import node_output
from .train_inputs import training_inputs

OWN = (
    "steps",
    "learning_rate",
    "seed",
    "batch",
    "accumulation",
    "modifier_tokens",
    "contexts",
    "context_factor",
    "prior",
    "positions",
    "schedule",
    "flip_probability",
)  # settings that have a widget of their own


def one_by_one(batches: Sequence[Tensor] | None) -> list[Tensor]:
    """Pictures or masks of a list of batches, each alone."""
    return [picture for batch in batches or () if batch is not None for picture in batch]


def planned_prompts(prompts: Sequence[str | None], graph: Any, node: Any) -> list[PlannedPrompt]:
    """What the concept is to be drawn with: the node's own check prompts, and those of pairs that read its concept."""
    own = [PlannedPrompt(prompt, "the input prompt") for prompt in prompts if prompt and prompt.strip()]
    return own + (connected_pairs(graph, str(node)) if graph and node is not None else [])


def sample_prompts(one: dict[str, Any]) -> list[str]:
    """What samples show, each with `{concept}` for trigger and noun; raises SpanNotFound."""
    lines = [line.strip() for line in one.get("sample_prompts", "").splitlines() if line.strip()]
    phrase = f"{one['trigger'].strip()} {one['noun'].strip()}"
    found = [with_place(line, phrase) for line in lines] or [COVER_PROMPT]
    for prompt in found:
        read_caption(prompt)
    return found


def lesson_from(values: dict[str, Any], graph: Any = None, node: Any = None) -> Lesson:
    """What to learn, from the node's inputs; each comes as a list.

    graph, node  what the host runs, and which of its nodes this is
    """
    one = {name: value[0] for name, value in values.items() if isinstance(value, list) and value}
    settings = IcoSettings(**{name: one[name] for name in OWN})
    noun = one["noun"].strip()
    return Lesson(
        noun=noun,
        trigger=one["trigger"].strip(),
        settings=settings,
        images=one_by_one(values["images"]),
        masks=one_by_one(values.get("masks")),
        captions=[with_place(caption, noun) for caption in values.get("captions") or () if caption is not None],
        class_images=one_by_one(values.get("class_images")),
        class_captions=[caption for caption in values.get("class_captions") or () if caption is not None],
        size_px=one["size_px"],
        keep_rank=one["kept_rank"] or None,
        preview_every=one["preview_every"],
        precision=one.get("precision", AUTO),
        rank=one.get("rank", AUTO),
        memory=one.get("memory", AS_SET),
        planned=planned_prompts(values.get("prompt") or (), graph, node),
        samples=Samples(one.get("sample_every", 0), sample_prompts(one)),
        start=one.get("start_from"),
    )


class ICOTrainConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "concept",
            node_id="ICOTrainConcept",
            display_name="ICO Train Concept",
            description="Teaches a model one thing from a few pictures. A cancelled training goes on where it was; "
            "one that was finished is never done twice.",
            search_aliases=[
                "personalization",
                "subject",
                "identity",
                "lora training",
                "train lora",
                "custom diffusion",
                "dreambooth",
                "textual inversion",
            ],
            is_input_list=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            inputs=training_inputs(),
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The model that knows the concept."),
                io.Clip.Output("clip", display_name="clip", tooltip="The CLIP that knows the trigger."),
                sockets.Concept.Output(
                    "concept", display_name="concept", tooltip="For DCI Prompt Pair, Save and Export."
                ),
                io.Image.Output("loss", display_name="loss", tooltip="The loss over the steps, drawn."),
                io.String.Output("phrase", display_name="trigger", tooltip="Trigger and noun, as a prompt needs them."),
                io.Image.Output(
                    "samples", display_name="samples", tooltip="All samples, by step and prompt; nothing without them."
                ),
            ],
        )

    @classmethod
    def execute(cls, base_model: Any, base_clip: Any, vae: Any, **values: Any) -> io.NodeOutput:
        around = getattr(cls, "hidden", None)
        lesson = lesson_from(values, getattr(around, "prompt", None), getattr(around, "unique_id", None))
        with live_training(f"{lesson.trigger} {lesson.noun}") as live:
            concept, losses = train_concept(base_model[0], base_clip[0], vae[0], lesson)
            files = lesson.samples.write()
        model, clip = with_concept(base_model[0], base_clip[0], concept, 1.0)
        pictures = lesson.samples.batch()
        told = node_ui.trained(concept, losses, live.notes, files)
        shown = no_picture() if pictures is None else pictures
        return node_output(model, clip, concept, draw_losses(losses), concept.phrase, shown, ui=told)


NODES: list[type[io.ComfyNode]] = [ICOTrainConcept]
