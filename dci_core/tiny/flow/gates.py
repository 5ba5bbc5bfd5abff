"""What the judge finds in the flow model's own pictures: the nouns, places and companions that were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..codec import Codec
from ..judge import QUESTIONS, Judge
from ..readings import Reading, reading
from ..world.captions import article
from ..world.words import COMPANIONS, NOUNS, PLACES
from .model import FlowModel
from .sampling import FlowSettings, sample_flow

BATCH = 20


@dataclass(frozen=True)
class FlowAsk:
    """One prompt, and question of the judge -> answer that its picture must give."""

    words: str
    asked: dict[str, str]


def flow_asks(count: int) -> list[FlowAsk]:
    """Nouns in turn over places in turn, pairs never seen among them; every second prompt asks for a companion too."""
    asks, places = list[FlowAsk](), list(PLACES)
    for i in range(count):
        noun, place = NOUNS[i % len(NOUNS)], places[(i + i // len(NOUNS)) % len(places)]
        asked, words = {"noun": noun, "place": place}, f"{article(noun)} {PLACES[place]}"
        if i % 2:
            asked["companion"] = COMPANIONS[(i // 2) % len(COMPANIONS)]
            words += f" next to a {asked['companion']}"
        asks.append(FlowAsk(words, asked))
    return asks


@torch.no_grad()
def drawn(model: FlowModel, codec: Codec, asks: list[FlowAsk], settings: FlowSettings) -> Tensor:
    """A picture of each prompt, [b 3 128 128], each from a seed of its own."""
    pictures = []
    for start in range(0, len(asks), BATCH):
        some = asks[start : start + BATCH]
        seeds = range(start, start + len(some))
        latents = sample_flow(model, [ask.words for ask in some], seeds=seeds, settings=settings)
        pictures.append(codec.decode(latents))
    return torch.cat(pictures)


@torch.no_grad()
def flow_gate(judge: Judge, pictures: Tensor, asks: list[FlowAsk]) -> Iterator[Reading]:
    """Shares of right answers by question, and of pictures with all of them right."""
    answers, _ = judge(pictures)
    right: dict[str, list[bool]] = {}
    for row, ask in enumerate(asks):
        hits = {q: int(answers[q][row].argmax()) == QUESTIONS[q].index(a) for q, a in ask.asked.items()}
        for question, hit in {**hits, "everything": all(hits.values())}.items():
            right.setdefault(question, []).append(hit)
    for question, found in right.items():
        yield reading("flow", f"{question} as asked, share of {len(found)} pictures", sum(found) / len(found))
