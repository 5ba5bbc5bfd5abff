"""The node that trains a concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..dci_core.concept.learned import Concept
from ..dci_core.families.unet import FAMILIES
from ..dci_core.ico.precision import AUTO
from ..dci_core.ico.rank import CHOICES as RANKS
from ..dci_core.ico.samples import COVER_PROMPT
from ..dci_core.ico.settings import CHOICES, IcoSettings
from ..dci_core.pictures.reference import make_picture
from ..dci_core.text.captions import read_caption, with_place
from ..dci_core.tiny.photographs import WARNING, are_photographs
from . import node_ui, sockets
from .fields import schema, text, widget
from .host.concept.apply import with_concept
from .host.ico.planned_prompts import PlannedPrompt, connected_pairs
from .host.ico.samples import Samples, no_picture
from .host.ico.training import Lesson, train_concept
from .host.page.live import live_training
from .maps import draw_losses

DEFAULTS = IcoSettings()
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


def plain_inputs() -> list[Any]:
    """What everyone sets."""
    return [
        io.Model.Input("base_model", tooltip="SD 1.x, SD 2.x, SDXL or the tiny world, fp32, fp16 or bf16."),
        io.Clip.Input("base_clip", tooltip="The CLIP of the same checkpoint."),
        io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
        io.Image.Input("images", tooltip="4 to 20 pictures of one thing, as a batch or a list; cropped square."),
        text("noun", default="dog", tooltip="Ordinary word for the kind of thing, such as dog, mug, man."),
        text(
            "trigger", default="mydog", tooltip="Your own word for it; write it before the noun: mydog dog in the snow."
        ),
        widget(
            io.Int,
            "steps",
            default=DEFAULTS.steps,
            min=1,
            max=100000,
            tooltip="Updates. Likeness grows with them, freedom of scene falls; 500 to 900 are usual.",
        ),
        widget(
            io.Float,
            "learning_rate",
            default=DEFAULTS.learning_rate,
            min=1e-8,
            max=1.0,
            step=1e-6,
            round=False,
            tooltip="For each picture of the batch; 0.00001 for SD, 0.00025 for the tiny world.",
        ),
        widget(
            io.Int,
            "seed",
            default=DEFAULTS.seed,
            min=0,
            max=0xFFFFFFFF,
            control_after_generate=False,  # the page would draw a new seed for each queue, and train anew
            tooltip="Seed of noise, timesteps and flips; the same seed gives the same concept.",
        ),
    ]


def more_inputs() -> list[Any]:
    """What few need."""

    def choice(name: str, tooltip: str) -> Any:
        default = getattr(DEFAULTS, name)
        return widget(io.Combo, name, options=list(CHOICES[name]), default=default, advanced=True, tooltip=tooltip)

    def number(name: str, low: int, high: int, tooltip: str, default: int | None = None) -> Any:
        start = getattr(DEFAULTS, name) if default is None else default
        return widget(io.Int, name, default=start, min=low, max=high, advanced=True, tooltip=tooltip)

    return [
        number("batch", 1, 64, "Pictures in one pass; memory grows with it."),
        number("accumulation", 1, 256, "Passes averaged into one update: a larger batch without its memory."),
        number("modifier_tokens", 1, 16, "Learned vectors behind the trigger."),
        number("size_px", 0, 2048, "Side of the training pictures, px; 0 is what the model was made for.", 0),
        number("kept_rank", 0, 768, "Size of the file: factors kept of each change; 0 keeps everything.", 16),
        widget(
            io.Boolean,
            "contexts",
            default=DEFAULTS.contexts,
            advanced=True,
            tooltip="On: ICO, the words around the concept are learned too and thrown away. Off: fixed captions.",
        ),
        choice("prior", "What keeps the noun's own meaning: teacher needs nothing, pictures needs class pictures."),
        choice("positions", "Where learned tokens count their place; corrected mends a slip of the released code."),
        choice("schedule", "How the learning rate goes on."),
        widget(
            io.Float,
            "flip_probability",
            default=DEFAULTS.flip_probability,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Chance of mirrored pictures; 0 for things with writing or a left and a right.",
        ),
        number("preview_every", 0, 1000, "Steps between preview pictures; 0 is none.", 20),
        widget(
            io.Float,
            "context_factor",
            default=DEFAULTS.context_factor,
            min=0.01,
            max=1000.0,
            step=0.5,
            advanced=True,
            tooltip="The words around the concept learn this many times faster than the concept itself; 10 is usual.",
        ),
        io.Mask.Input("masks", optional=True, tooltip="White where the thing is; one for each picture."),
        io.Image.Input("class_images", optional=True, tooltip="Ordinary things of the same kind, for prior pictures."),
        io.String.Input(
            "captions",
            optional=True,
            force_input=True,
            tooltip="One for each picture, as a list, with {concept} where the thing stands.",
        ),
        io.String.Input(
            "class_captions", optional=True, force_input=True, tooltip="One for each class picture, as a list."
        ),
        widget(
            io.Combo,
            "precision",
            options=[AUTO, "bf16", "fp16", "fp32"],
            default=AUTO,
            optional=True,
            advanced=True,
            tooltip="What the model computes in while it learns; auto: bf16 where the GPU has it, else fp16, fp32 on a "
            "CPU. What is learned is always fp32.",
        ),
        widget(
            io.Combo,
            "rank",
            options=list(RANKS),
            default=AUTO,
            optional=True,
            advanced=True,
            tooltip="Numbers that are learned; auto: all of them on SD 1.x and 2.x, 32 factors on SDXL, where all take "
            "5.5 GB. A lower rank needs less memory; its learning rate is raised so that it learns as fast.",
        ),
        text(
            "prompt",
            optional=True,
            multiline=True,
            tooltip="A prompt that you will draw with. Checked before the first step: trigger and noun must stand in "
            "it. Empty: nothing to check. Connected DCI Prompt Pairs are always checked.",
        ),
        widget(
            io.Int,
            "sample_every",
            default=0,
            min=0,
            max=100000,
            optional=True,
            advanced=True,
            tooltip="Steps between rounds of samples, to pick the best step by; 0 is none.",
        ),
        text(
            "sample_prompts",
            optional=True,
            multiline=True,
            tooltip="What samples show, a prompt a line, trigger and noun in each. Empty: the concept alone.",
        ),
        sockets.Concept.Input(
            "start_from",
            optional=True,
            tooltip="A finished concept that the training starts from, on the same base model.",
        ),
    ]


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
    return Lesson(
        noun=one["noun"].strip(),
        trigger=one["trigger"].strip(),
        settings=settings,
        images=one_by_one(values["images"]),
        masks=one_by_one(values.get("masks")),
        captions=[caption for caption in values.get("captions") or () if caption is not None],
        class_images=one_by_one(values.get("class_images")),
        class_captions=[caption for caption in values.get("class_captions") or () if caption is not None],
        size_px=one["size_px"],
        keep_rank=one["kept_rank"] or None,
        preview_every=one["preview_every"],
        precision=one.get("precision", AUTO),
        rank=one.get("rank", AUTO),
        planned=planned_prompts(values.get("prompt") or (), graph, node),
        samples=Samples(one.get("sample_every", 0), sample_prompts(one)),
        start=one.get("start_from"),
    )


def cautions(concept: Concept, lesson: Lesson) -> list[str]:
    """What a user should know of a training that went well."""
    side, told = FAMILIES["tiny"].picture_size, []
    is_small = concept.family in ("tiny", "tiny_flow")
    small = [make_picture(image.cpu(), side).pixels for image in lesson.images] if is_small else []
    if are_photographs(small):
        told.append(WARNING)
    if len(lesson.images) == 1:
        told.append(
            "it learned from one picture, so the concept may keep that picture's place and pose; 4 or more of the same "
            "thing in varied places are better"
        )
    return told


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
            inputs=[*plain_inputs(), *more_inputs()],
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
        model, clip = with_concept(base_model[0], base_clip[0], concept, 1.0)
        files, pictures = lesson.samples.write(), lesson.samples.batch()
        told = node_ui.trained(concept, losses, [*live.notes, *cautions(concept, lesson)], files)
        shown = no_picture() if pictures is None else pictures
        return io.NodeOutput(model, clip, concept, draw_losses(losses), concept.phrase, shown, ui=told)


NODES: list[type[io.ComfyNode]] = [ICOTrainConcept]
