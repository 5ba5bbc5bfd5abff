"""The graphs that a study queues: one that trains, one that draws all prompts and seeds one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...text.tokens import PLACEHOLDER
from .client import Graph
from .datasets import Subject

FOLDER = "ico_study"  # below the server's input, output and concept folders


@dataclass(frozen=True)
class Base:
    """What every picture of a study shares.

    checkpoint  as the stock loader lists it
    size        of the training pictures and of those that are drawn, px
    cfg         of plain sampling, and of every dial but CFG
    """

    checkpoint: str
    size: int
    num_steps: int
    cfg: float
    sampler: str
    scheduler: str
    negative: str


@dataclass(frozen=True)
class Drawing:
    """One way to draw: plain sampling but for one thing.

    window            of DCI; 0 is off
    concept_strength  of the key and value changes
    prompt_weight     of trigger and noun, as the host weighs words
    cfg_factor        of the base's CFG
    swap_window       the auxiliary prompt inside it, the concept's after it; no DBIM
    """

    window: float = 0.0
    concept_strength: float = 1.0
    prompt_weight: float = 1.0
    cfg_factor: float = 1.0
    swap_window: float = 0.0


class Wires:
    """A graph that grows; `add` gives a node's id."""

    def __init__(self) -> None:
        self.graph: Graph = {}

    def add(self, kind: str, **inputs: Any) -> str:
        """A node of that kind."""
        ident = str(len(self.graph) + 1)
        self.graph[ident] = {"class_type": kind, "inputs": inputs}
        return ident


def trigger_of(subject: Subject) -> str:
    """A word for the thing that no dictionary has."""
    return f"my{''.join(subject.noun.split()).lower()}"


def concept_name(subject: Subject, steps: int) -> str:
    """The concept's file, without ending."""
    return f"{FOLDER}/{subject.name}-{steps}"


def picture_folder(subject: Subject) -> str:
    """Where its pictures lie below the server's input folder."""
    return f"{FOLDER}/{subject.name}"


def training_graph(base: Base, subject: Subject, steps: int, widgets: Mapping[str, Mapping[str, Any]]) -> Graph:
    """Trains and saves the concept; the node goes on from what an earlier call with fewer steps left.

    widgets  defaults by node, "ICOTrainConcept", "ICOLoadPictures" and "ICOSaveConcept"
    """
    wires = Wires()
    loaded = wires.add("CheckpointLoaderSimple", ckpt_name=base.checkpoint)
    seen = wires.add("ICOLoadPictures", **{**widgets["ICOLoadPictures"], "folder": picture_folder(subject)})
    own = {"noun": subject.noun, "trigger": trigger_of(subject), "steps": steps}
    own |= {"size_px": base.size, "preview_every": 0}
    sockets = {"base_model": [loaded, 0], "base_clip": [loaded, 1], "vae": [loaded, 2], "images": [seen, 0]}
    learned = wires.add("ICOTrainConcept", **{**widgets["ICOTrainConcept"], **own, **sockets})
    file = {"filename": concept_name(subject, steps), "overwrite": True}
    wires.add("ICOSaveConcept", **{**widgets["ICOSaveConcept"], **file, "concept": [learned, 2]})
    return wires.graph


def drawing_graph(
    base: Base,
    subject: Subject,
    file: str,
    drawing: Drawing,
    prompts: Sequence[str],
    seeds: Sequence[int],
    auxiliary: str,
    widgets: Mapping[str, Mapping[str, Any]],
) -> Graph:
    """Draws every prompt at every seed; saved as `FOLDER/draw-PROMPT-SEED`.

    file       the concept, as its loader lists it
    prompts    with {concept}
    auxiliary  noun of the second branch
    widgets    defaults of "DCIPromptPair" and "DCIDualBranchSampler"
    """
    wires = Wires()
    loaded = wires.add("CheckpointLoaderSimple", ckpt_name=base.checkpoint)
    sockets: dict[str, Any] = {"base_model": [loaded, 0], "base_clip": [loaded, 1]}
    ready = wires.add("ICOLoadConcept", concept_name=file, strength=drawing.concept_strength, **sockets)
    model, clip = [ready, 0], [ready, 1]
    against = wires.add("CLIPTextEncode", clip=clip, text=base.negative)
    empty = wires.add("EmptyLatentImage", width=base.size, height=base.size, batch_size=1)
    rest = {"negative": [against, 0], "latent_image": [empty, 0], "steps": base.num_steps, "denoise": 1.0}
    rest |= {"cfg": base.cfg * drawing.cfg_factor, "sampler_name": base.sampler, "scheduler": base.scheduler}
    phrase = f"{trigger_of(subject)} {subject.noun}"
    said = phrase if drawing.prompt_weight == 1 else f"({phrase}:{drawing.prompt_weight:g})"
    for i, prompt in enumerate(prompts):
        plan = {}
        if drawing.window:
            words = {"prompt": prompt.replace(PLACEHOLDER, phrase), "auxiliary_noun": auxiliary, "auxiliary_prompt": ""}
            pair = wires.add(
                "DCIPromptPair", **{**widgets["DCIPromptPair"], **words, "clip": clip, "concept": [ready, 2]}
            )
            positive, plan = [pair, 0], {"plan": [pair, 1], "window": drawing.window}
        else:
            read = wires.add("CLIPTextEncode", clip=clip, text=prompt.replace(PLACEHOLDER, said))
            positive = [read, 0]
        if drawing.swap_window:
            other = wires.add("CLIPTextEncode", clip=clip, text=prompt.replace(PLACEHOLDER, auxiliary))
            positive = swapped(wires, [other, 0], positive, drawing.swap_window)
        for seed in seeds:
            own = {**rest, "model": model, "positive": positive, "seed": seed, **plan}
            kind = "DCIDualBranchSampler" if plan else "KSampler"
            drawn = wires.add(kind, **({**widgets[kind], **own} if plan else own))
            seen = wires.add("VAEDecode", samples=[drawn, 0], vae=[loaded, 2])
            wires.add("SaveImage", images=[seen, 0], filename_prefix=f"{FOLDER}/draw-{i}-{seed}")
    return wires.graph


def swapped(wires: Wires, first: list[Any], then: list[Any], window: float) -> list[Any]:
    """One conditioning inside the window, the other after it, by the host's own nodes."""
    inside = wires.add("ConditioningSetTimestepRange", conditioning=first, start=0.0, end=window)
    after = wires.add("ConditioningSetTimestepRange", conditioning=then, start=window, end=1.0)
    both = wires.add("ConditioningCombine", conditioning_1=[inside, 0], conditioning_2=[after, 0])
    return [both, 0]
