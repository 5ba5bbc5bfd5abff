"""The inputs of the node that trains a concept."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.ico.memory import AS_SET
from ..dci_core.ico.memory import CHOICES as CARDS
from ..dci_core.ico.precision import AUTO
from ..dci_core.ico.rank import CHOICES as RANKS
from ..dci_core.ico.settings import CHOICES, IcoSettings
from . import sockets
from .fields import text, widget

DEFAULTS = IcoSettings()


def training_inputs() -> list[Any]:
    """All inputs of ICO Train Concept, in the order of its first version; later ones behind."""
    return [*plain_inputs(), *more_inputs()]


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
            tooltip="One for each picture, as a list, with {concept} or the noun where the thing stands.",
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
            advanced=True,
            tooltip="What samples show, a prompt a line, trigger and noun in each. Empty: the concept alone.",
        ),
        sockets.Concept.Input(
            "start_from",
            optional=True,
            tooltip="A finished concept that the training starts from, on the same base model.",
        ),
        widget(
            io.Combo,
            "memory",
            options=list(CARDS),
            default=AS_SET,
            optional=True,
            advanced=True,
            tooltip="The card's memory: batch is split into passes that fit on it, with as many pictures in an update, "
            "and the text encoders go to the CPU where there is no room. As set: batch and accumulation as they are.",
        ),
    ]
