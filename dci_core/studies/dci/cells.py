"""The study's smallest pieces of work: each gives plain numbers, depends on nothing but itself, and has a key."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ...concept.apply import Patchable, apply_concept
from ...concept.learned import Concept
from ...concept.together import Part
from ...fingerprint import as_data
from ...model import Model
from ...text.prompts import Prompts, encode_text
from ...text.tokens import PLACEHOLDER, PromptPair
from ...tiny.codec import Codec
from ...tiny.defaults import UNET
from ...tiny.world.concepts import OBJECTS, HeldOut
from ...tiny.world.words import HOMES, PLACES
from ..gates.trial import Ask, asks_for
from ..worlds import SmallWorld, load_world
from .dials import Setting, Way
from .drawing import Rows, Scope, draw_rows
from .ground import Lesson, Shelf, hash_of
from .judge_scores import JudgeScores, Numbers, judge_panel
from .protocol import Ground, Panel, Training

ROWS_ON_CPU, ROWS_ON_GPU = 8, 64  # pictures in one run
KEPT_MODELS = 6  # of 28 MB each; cells of one concept follow each other
ENCODER = "clip_l"


@dataclass
class Bench(JudgeScores):
    """One worker's tools, each read when it is first needed.

    weights  folder of the small world's weights
    device   where pictures are drawn; the codec's encoder and the judge stay on the CPU and always say the same
    kind     of the small world
    """

    shelf: Shelf
    device: str = "cpu"
    kind: str = UNET
    models: dict[str, tuple[Patchable, Concept]] = field(default_factory=dict)

    @cached_property
    def world(self) -> SmallWorld:
        """The model on the device, the codec on the CPU."""
        return load_world(self.kind, self.weights, torch.device(self.device))

    @cached_property
    def decoder(self) -> Codec:
        """The codec on the device."""
        return copy.deepcopy(self.world.codec).to(self.device)

    def tuned(self, concept: int, training: Training, step: int, strength: float = 1.0) -> tuple[Patchable, Concept]:
        """The model with the concept in place, and the concept."""
        key = hash_of(concept, as_data(training), step, strength)
        if key not in self.models:
            while len(self.models) >= KEPT_MODELS:
                self.models.pop(next(iter(self.models)))
            learned = self.shelf.load(concept, training, step)
            self.models[key] = apply_concept(self.world.model, learned, strength), learned
        return self.models[key]


class Cell(Protocol):
    """One piece of work."""

    @property
    def lesson(self) -> Lesson | None:
        """What must have been learned before."""

    @property
    def cost(self) -> int:
        """Rows times steps of the U-Net, about."""

    def play(self, bench: Bench) -> Numbers:
        """The numbers."""


def key_of(cell: object) -> str:
    """The cell's name in the store: everything that decides its numbers, hashed."""
    return hash_of(type(cell).__name__, as_data(cell))


@dataclass(frozen=True)
class PictureCell:
    """All prompts and seeds of one concept drawn one way and judged."""

    concept: int
    training: Training
    step: int
    way: Way
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def lesson(self) -> Lesson | None:
        """The checkpoint that is drawn from."""
        return Lesson(self.concept, self.training, (self.step,))

    @property
    def cost(self) -> int:
        """Two rows a picture and step, and in the window two more."""
        extra = 2 * self.way.dci.window if self.way.dci else 0
        return int(len(self.prompts) * len(self.seeds) * self.way.sample.num_steps * (2 + extra))

    def play(self, bench: Bench) -> Numbers:
        """Per picture [prompts][seeds]: likeness, following, has_all, has_noun."""
        return judge_panel(bench, self.concept, self.prompts, self.draw(bench))

    def draw(self, bench: Bench) -> Tensor:
        """[(prompts seeds) 3 128 128] in 0..1, on the CPU."""
        model, concept = bench.tuned(self.concept, self.training, self.step, self.way.concept_strength)
        texts = [prompts_for(model, concept, OBJECTS[self.concept], number, self.way) for number in self.prompts]
        return draw_prompts(bench, model, texts, self.seeds, self.way, scope_of(concept, self.way))


def scope_of(concept: Concept, way: Way) -> Scope | None:
    """Where this way lets the concept's changes act; None: everywhere."""
    if way.is_everywhere:
        return None
    return Scope(Part((), (), concept.deltas, way.concept_strength), way.common, way.others)


def draw_prompts(
    bench: Bench, model: Model, texts: Sequence[Prompts], seeds: Sequence[int], way: Way, scope: Scope | None = None
) -> Tensor:
    """[(prompts seeds) 3 128 128] in 0..1, on the CPU."""
    most = ROWS_ON_CPU if bench.device == "cpu" else ROWS_ON_GPU
    rows = [(i, seed) for i in range(len(texts)) for seed in seeds]
    pictures = []
    for first in range(0, len(rows), most):
        owner, chosen = zip(*rows[first : first + most], strict=True)
        used = sorted(set(owner))
        part = Rows([texts[i] for i in used], tuple(used.index(i) for i in owner), chosen, scope)
        latents = draw_rows(model, part, way.sample, way.dci, way.swap_window)
        with torch.no_grad():
            pictures.append(bench.decoder.decode(latents).cpu())
    return torch.cat(pictures)


def prompts_for(model: Model, concept: Concept, thing: HeldOut, number: int, way: Way) -> Prompts:
    """One prompt as this way reads it."""
    asks = asks_for(thing)
    pair = pair_of(model, concept, asks, number, way)
    prompts = Prompts.from_pair(model, pair)
    if way.prompt_weight != 1:
        prompts = weighted(prompts, pair.tokens.concept.span, way.prompt_weight)
    if way.negative_home:
        home = HOMES[thing.thing.noun]
        assert home is not None  # every concept's noun has one
        prompts = replace(prompts, empty=encode_text(model, PLACES[home]))
    return prompts


def pair_of(model: Model, concept: Concept, asks: Sequence[Ask], number: int, way: Way) -> PromptPair:
    """The concept's prompt and the auxiliary one."""
    template = asks[number].template
    auxiliary = concept.phrase if way.auxiliary_prompt == "concept" else way.auxiliary
    other = None
    if way.auxiliary_prompt == "shuffled":  # the next prompt asks for another place, whichever comes first
        other = asks[(number + 1) % len(asks)].template.replace(PLACEHOLDER, auxiliary)
    return PromptPair.from_template(
        template,
        trigger=concept.trigger,
        noun=concept.noun,
        auxiliary=auxiliary,
        encoder=model.encoders[ENCODER],
        auxiliary_prompt=other,
    )


def weighted(prompts: Prompts, slots: Sequence[int], weight: float) -> Prompts:
    """The concept prompt with these slots between the empty prompt's hidden states (0) and their own (1)."""
    hidden = prompts.concept.hidden.clone()
    at = list(slots)
    empty = prompts.empty.hidden[:, at]
    hidden[:, at] = empty + (hidden[:, at] - empty) * weight
    return replace(prompts, concept=replace(prompts.concept, hidden=hidden))


def cells_of(groups: Mapping[str, Sequence[Setting]], panel: Panel, ground: Ground) -> list[PictureCell]:
    """Everything that these groups of settings draw over a panel."""
    return [
        cell
        for settings in groups.values()
        for setting in settings
        for cell in picture_cells(panel, ground.training, setting.step or ground.main, setting.way)
    ]


def picture_cells(panel: Panel, training: Training, step: int, way: Way) -> list[PictureCell]:
    """One cell for each concept of the panel."""
    return [PictureCell(c, training, step, way, panel.prompts, panel.seeds) for c in panel.concepts]
