"""One worker's tools: the flow world with pairs of learned concepts on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ...attention.regions import read_box
from ...concept.apply import apply_concept
from ...concept.file import load_concept, save_concept
from ...concept.learned import Concept
from ...concept.together import Part, Together
from ...dci.run import SampleSettings, sample_latents
from ...ico.result import make_concept
from ...ico.settings import IcoSettings
from ...ico.train import train_steps
from ...text.places import Named, pair_of_several
from ...text.prompts import Prompts
from ...text.tokens import PairTokens, PromptPair, TokenSet
from ...tiny.codec import Codec
from ...tiny.flow.concept_model import ENCODER, TinyFlowModel
from ...tiny.flow.model import load_flow_world
from ...tiny.model import World
from ...tiny.world.concepts import CONCEPTS
from ..dci.ground import hash_files, hash_of
from ..dci.judge_scores import JudgeScores
from ..gates.concepts import begin
from .protocol import STAND_INS, TRAINING
from .ways import Way

PARTS = ("text", "mmdit", "codec")  # weights that a concept depends on
KEPT_PAIRS = 3
TRIGGERS = ("my", "our")  # before the noun: two of one noun need two words


@dataclass
class TwoBench(JudgeScores):
    """Each part is read when it is first needed.

    concepts  folder of learned concepts
    """

    concepts: Path
    pairs: dict[str, tuple[TinyFlowModel, tuple[Concept, Concept]]] = field(default_factory=dict, init=False)

    @cached_property
    def world(self) -> tuple[TinyFlowModel, Codec]:
        """Model and codec."""
        world = load_flow_world(self.weights)
        return TinyFlowModel(world.model), world.codec

    def path(self, concept: int, ico: IcoSettings) -> Path:
        """Where a learned concept stands, under the hash of all that made it."""
        made = hash_of(hash_files(self.weights, PARTS), concept, TRAINING.kind, asdict(ico))
        return self.concepts / f"{CONCEPTS[concept].name}-{TRAINING.kind}-{made}.safetensors"

    def learn(self, concept: int, ico: IcoSettings) -> None:
        """The concept stands in its file, learned now if it was not."""
        path = self.path(concept, ico)
        if path.exists():
            return
        model, codec = self.world
        data, state = begin(World(model, codec), CONCEPTS[concept], TRAINING.kind, ico)  # type: ignore[arg-type]
        for _ in train_steps(model, data, state):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        save_concept(make_concept(state, trigger=f"my{state.noun}"), path)

    def pair(self, numbers: tuple[int, int], ico: IcoSettings) -> tuple[TinyFlowModel, tuple[Concept, Concept]]:
        """The model with both concepts stacked, and the concepts."""
        key = hash_of(numbers, asdict(ico))
        if key not in self.pairs:
            while len(self.pairs) >= KEPT_PAIRS:
                self.pairs.pop(next(iter(self.pairs)))
            learned = (load_concept(self.path(number, ico), family="tiny_flow") for number in numbers)
            one, other = (replace(c, trigger=word + c.noun) for word, c in zip(TRIGGERS, learned, strict=True))
            self.pairs[key] = apply_concept(apply_concept(self.world[0], one), other), (one, other)
        return self.pairs[key]

    @torch.no_grad()
    def draw(
        self, numbers: tuple[int, int], ico: IcoSettings, template: str, seeds: Sequence[int],
        sample: SampleSettings, way: Way,
    ) -> Tensor:  # fmt: skip
        """[seeds 3 128 128] in 0..1."""
        model, concepts = self.pair(numbers, ico)
        pair, together = pair_for(model, concepts, template, way)
        run = sample_latents(
            model, Prompts.from_pair(model, pair), seeds=seeds, settings=sample, dci=way.dci, together=together
        )
        return self.world[1].decode(run.concept)


def pair_for(
    model: TinyFlowModel, concepts: tuple[Concept, Concept], template: str, way: Way
) -> tuple[PromptPair, Together | None]:
    """The two prompts as this way reads them, and what keeps the concepts apart; None: they are only stacked."""
    encoder = model.encoders[ENCODER]
    named = [Named(c.trigger, c.noun, noun) for c, noun in zip(concepts, STAND_INS, strict=True)]
    pair = pair_of_several(template, named, encoder)
    together = None if way.is_plain else together_for(pair.tokens, concepts, way)
    if way.stands == "first":
        kept = template.replace("{concept:b}", concepts[1].phrase).replace("{concept:a}", "{concept}")
        first = named[0]
        pair = PromptPair.from_template(
            kept, trigger=first.trigger, noun=first.noun, auxiliary=first.auxiliary, encoder=encoder
        )
    if way.stands == "union":
        sides = (replace(side, parts=()) for side in (pair.tokens.concept, pair.tokens.auxiliary))
        pair = replace(pair, tokens=PairTokens(*sides))
    return pair, together


def together_for(tokens: PairTokens, concepts: tuple[Concept, Concept], way: Way) -> Together:
    """What keeps the concepts to their words and sides."""
    boxes = {"": ("", ""), "own": ("left", "right"), "swapped": ("right", "left")}[way.sides]
    sides: tuple[TokenSet, TokenSet] = tokens.concept, tokens.auxiliary
    parts = tuple(
        Part(slots, stand_in, concept.deltas, 1.0, read_box(box))
        for slots, stand_in, concept, box in zip(sides[0].parts, sides[1].parts, concepts, boxes, strict=True)
    )
    shares = (way.common, way.others) if way.apart else (1.0, 1.0)
    return Together(parts, common=shares[0], others=shares[1], apart=way.apart)
