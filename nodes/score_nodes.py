"""The node that scores pictures of a concept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io
from PIL import Image

from ..dci_core.errors import BadSettings
from ..dci_core.pictures.reference import as_rgb
from ..dci_core.score.folders import CLIP, DINO
from ..dci_core.score.frontier import frontier
from ..dci_core.score.prompts import by_line, plain_prompts
from ..dci_core.score.scores import NAMES, Scores, look_at_references, refuse_few, score_pictures, summed_up
from ..dci_core.score.tables import table
from . import node_ui, sockets
from .fields import schema, text, widget
from .host.encoders import encoder_names, loaded_judges
from .host.progress import counter
from .node_output import node_output

MEANS = "Mean over the pictures; higher is better; not a number where its model is missing."


class DCIConceptScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        clips, dinos = encoder_names(CLIP), encoder_names(DINO)
        return schema(
            "look and measure",
            node_id="DCIConceptScore",
            display_name="Concept Score",
            description="Scores pictures of a concept: CLIP-T (is the prompt followed), CLIP-I and DINO (is it the "
            "thing of the reference pictures), by models in folders on this machine. Nothing is downloaded.",
            search_aliases=["clip score", "dino", "evaluate", "benchmark"],
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="The pictures to score, as a batch or a list."),
                io.Image.Input("references", tooltip="Two or more real pictures of the concept, as a batch or a list."),
                text(
                    "prompts",
                    multiline=True,
                    tooltip="A line for each picture in their order, or one line for all; plain words without weights.",
                ),
                widget(
                    io.Combo,
                    "clip_folder",
                    options=clips,
                    default=clips[0],
                    tooltip="A CLIP model's folder (config.json, model.safetensors, tokenizer, preprocessor) in "
                    "models/ico_scores or models/clip_vision, for CLIP-T and CLIP-I.",
                ),
                widget(
                    io.Combo,
                    "dino_folder",
                    options=dinos,
                    default=dinos[0],
                    tooltip="A DINO or DINOv2 model's folder in the same places, for DINO.",
                ),
                sockets.Concept.Input(
                    "concept", optional=True, tooltip="Its trigger is left out of the prompts: CLIP cannot know it."
                ),
                io.String.Input(
                    "labels",
                    optional=True,
                    force_input=True,
                    tooltip="A line for each picture that names its setting, as DCI Sweep gives them; the text then "
                    "compares the settings.",
                ),
            ],
            outputs=[
                *(io.Float.Output(name, display_name=shown, tooltip=MEANS) for name, shown in NAMES.items()),
                io.String.Output(
                    "text", display_name="text", tooltip="The figures of every picture or setting, as a table."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, images: Any, references: Any, prompts: Any, clip_folder: Any, dino_folder: Any, **more: Any
    ) -> Any:
        pictures, real = one_by_one(images), one_by_one(references)
        refuse_few(len(real))
        names = [str(i + 1) for i in range(len(pictures))]
        concept = first(more.get("concept"))
        words = (concept.trigger, concept.noun) if concept else ("", "")
        told = plain_prompts(by_line(lines(prompts), names, "prompts"), *words)
        labels = read_labels(lines(more.get("labels")), len(pictures))
        with loaded_judges(first(clip_folder), first(dino_folder)) as judges:
            tick = counter(judges.passes * (len(pictures) + len(real)))
            known = look_at_references(judges, real, tick)
            scores = score_pictures(judges, known, pictures, told, tick)
        settings = by_label(scores, labels, told)
        best = frontier(settings) if len(settings) > 1 else []
        values = [scores[name].value if name in scores else math.nan for name in NAMES]
        text = table(settings, known, best)
        told = node_ui.table_told(dict(zip(NAMES.values(), values, strict=True)), text)
        return node_output(*values, text, ui=told)


def one_by_one(batches: Any) -> list[Image.Image]:
    """Every picture of a list of IMAGE batches."""
    return [as_rgb(picture) for batch in batches or () if batch is not None for picture in batch]


def lines(texts: Any) -> list[str]:
    """The lines of a list of texts, blank ones left out."""
    return [line.strip() for text in texts or () for line in (text or "").splitlines() if line.strip()]


def first(values: Any) -> Any:
    """The one value of an input that comes as a list; None where nothing is connected."""
    return values[0] if values else None


def read_labels(labels: Sequence[str], count: int) -> list[str]:
    """A setting's name for each picture; raises BadSettings where they are not as many.

    As many labels as divide the pictures are each for several pictures that follow each other.
    """
    if not labels:
        return ["pictures"] * count
    if count % len(labels):
        raise BadSettings(
            f"{len(labels)} labels came for {count} pictures",
            "one for each is expected",
            "connect both of one DCI Sweep",
        )
    return [label for label in labels for _ in range(count // len(labels))]


def by_label(scores: Scores, labels: Sequence[str], prompts: Sequence[str]) -> dict[str, Scores]:
    """The scores of each setting apart."""
    members = {label: [i for i, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)}
    return {
        label: {
            name: summed_up([score.values[i] for i in own], [prompts[i] for i in own]) for name, score in scores.items()
        }
        for label, own in members.items()
    }


NODES: list[type[io.ComfyNode]] = [DCIConceptScore]
