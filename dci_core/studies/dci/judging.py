"""The judge on trial: cells that ask it about real pictures, strangers, wrong prompts and the model's own samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import normalize

from ...text.prompts import Prompts
from ...tiny.judge import QUESTIONS, verdict
from ...tiny.world.captions import article
from ...tiny.world.concepts import CONCEPTS
from ...tiny.world.scene import Scene, render
from ...tiny.world.words import COMPANIONS, HOMES, NEVER_BESIDE, NOUNS, PLACES
from ..gates.judge import judge_gate
from ..gates.trial import asks_for, to_tensor
from .cells import Bench, PictureCell, draw_prompts
from .dials import Way
from .ground import Lesson
from .judge_scores import Numbers, numbers_of
from .protocol import Training

SEED = 616_000
HALF = 12  # real pictures in each half
GATE_COST = 2500  # rows times steps that take as long as the gate's renders


def stranger_of(concept: int) -> int:
    """Another concept of the same noun, or the next one where there is none."""
    noun = CONCEPTS[concept].thing.noun
    same = [c.number for c in CONCEPTS if c.thing.noun == noun and c.number != concept]
    return same[0] if same else (concept + 1) % len(CONCEPTS)


@dataclass(frozen=True)
class OwnCell:
    """Plain samples of one concept: the right questions, another prompt's, another concept's likeness."""

    concept: int
    training: Training
    step: int
    way: Way
    prompts: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def drawn(self) -> PictureCell:
        """The pictures."""
        return PictureCell(self.concept, self.training, self.step, self.way, self.prompts, self.seeds)

    @property
    def lesson(self) -> Lesson | None:
        """The checkpoint that is drawn from."""
        return self.drawn.lesson

    @property
    def cost(self) -> int:
        """As plain pictures."""
        return self.drawn.cost

    def play(self, bench: Bench) -> Numbers:
        """Per picture [prompts][seeds]: likeness, following, those of the controls; identity vectors [pictures][64]."""
        asks, found = asks_for(CONCEPTS[self.concept]), Numbers()
        pictures = self.drawn.draw(bench)
        wrong = bench.scale(stranger_of(self.concept))
        for i, number in enumerate(self.prompts):
            own = pictures[i * len(self.seeds) : (i + 1) * len(self.seeds)]
            right = numbers_of(verdict(bench.judge, own, bench.scale(self.concept), with_noun(self.concept, number)))
            other = with_noun(self.concept, (number + 1) % len(asks))
            shuffled = numbers_of(verdict(bench.judge, own, wrong, other))
            numbers = {
                "likeness": right["likeness"],
                "following": right["following"],
                "wrong_likeness": shuffled["likeness"],
                "shuffled_following": shuffled["following"],
                "shuffled_has_all": shuffled["has_all"],
                "has_all": right["has_all"],
            }
            for name, values in numbers.items():
                found.setdefault(name, []).append(values)
        with torch.no_grad():
            identity = bench.judge(pictures)[1]
        return {**found, "identity": [[round(x, 4) for x in row] for row in identity.tolist()]}


def with_noun(concept: int, number: int) -> dict[str, str]:
    """What a prompt asks of the judge, the noun included."""
    return {**asks_for(CONCEPTS[concept])[number].asked, "noun": CONCEPTS[concept].thing.noun}


@dataclass(frozen=True)
class CeilingCell:
    """What real pictures of the concept score: one half of them measured against the other half."""

    concept: int

    @property
    def lesson(self) -> Lesson | None:
        """Nothing."""
        return None

    @property
    def cost(self) -> int:
        """Renders alone, no model."""
        return 100

    def play(self, bench: Bench) -> Numbers:
        """likeness [pictures] of the second half; following and has_all [prompts][pictures] of renders as asked."""
        thing, rng = CONCEPTS[self.concept], np.random.default_rng(SEED + self.concept)
        places = rng.permutation([list(PLACES)[i % len(PLACES)] for i in range(2 * HALF)]).tolist()
        real = to_tensor([render(Scene(thing.thing, place), rng) for place in places])
        with torch.no_grad():
            known = normalize(bench.judge(real[:HALF])[1].mean(dim=0), dim=0)
        scale = replace(bench.scale(self.concept), known=known)
        likeness = verdict(bench.judge, real[HALF:], scale, {"noun": thing.thing.noun}).likeness
        found = Numbers(likeness=[round(x, 5) for x in likeness.tolist()], following=[], has_all=[])
        for number, ask in enumerate(asks_for(thing)):
            scene = Scene(thing.thing, ask.asked["place"], ask.asked.get("companion"))
            pictures = to_tensor([render(scene, rng) for _ in range(4)])
            numbers = numbers_of(verdict(bench.judge, pictures, scale, with_noun(self.concept, number)))
            found["following"].append(numbers["following"])
            found["has_all"].append(numbers["has_all"])
        return found


@dataclass(frozen=True)
class BaseCell:
    """Gate 6's questions about samples of the base: ordinary nouns at home, alone and beside something."""

    way: Way
    seeds: tuple[int, ...]

    @property
    def lesson(self) -> Lesson | None:
        """Nothing."""
        return None

    @property
    def cost(self) -> int:
        """Two prompts for every noun."""
        return 2 * len(NOUNS) * len(self.seeds) * self.way.sample.num_steps * 2

    def play(self, bench: Bench) -> Numbers:
        """Per question the share right; the judge can only agree where the base drew what it was asked for."""
        right: dict[str, list[float]] = {"noun": [], "place": [], "companion": []}
        rng = np.random.default_rng(SEED)
        for noun in NOUNS:
            place = HOMES[noun] or str(rng.choice(list(PLACES)))
            beside = str(rng.choice([c for c in COMPANIONS if c != NEVER_BESIDE.get(noun)]))
            words = f"{article(noun)} {PLACES[place]}"
            texts = [Prompts.from_text(bench.world.model, w) for w in (words, f"{words} next to a {beside}")]
            pictures = draw_prompts(bench, bench.world.model, texts, self.seeds, self.way)
            with torch.no_grad():
                answers = {q: a.argmax(dim=1) for q, a in bench.judge(pictures)[0].items()}
            half = len(self.seeds)
            truth = {"noun": [noun] * 2 * half, "place": [place] * 2 * half}
            truth["companion"] = ["nothing"] * half + [beside] * half
            for question, expected in truth.items():
                want = torch.tensor([QUESTIONS[question].index(answer) for answer in expected])
                right[question] += (answers[question] == want).float().tolist()
        return {question: float(np.mean(values)) for question, values in right.items()}


@dataclass(frozen=True)
class GateCell:
    """Gate 6 itself, on renders."""

    seed: int = SEED

    @property
    def lesson(self) -> Lesson | None:
        """Nothing."""
        return None

    @property
    def cost(self) -> int:
        """Renders alone."""
        return GATE_COST

    def play(self, bench: Bench) -> Numbers:
        """The gate's readings, as plain data."""
        return {"readings": [found.row() for found in judge_gate(bench.judge, np.random.default_rng(self.seed))]}
