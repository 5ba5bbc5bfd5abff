"""Trains the text encoder to hold, at its words and marks, what the caption says of the scene; then it is frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..text import TextEncoder, TextParams
from ..tokenizer import FOLDER, LENGTH, frame, load_tokenizer, marks, train_tokenizer
from ..world.captions import caption
from ..world.concepts import HELD_OUT_LOOKS
from ..world.scene import Scene, random_scene
from ..world.words import COLOURS, COMPANIONS, IN_TWO_PIECES, NOUNS, PARTS, PATTERNS, PLACES, STYLES, every_word
from .loop import Stage, averaged, report, run_stage

STAGE = Stage(steps=700, minutes=40, lr=2e-3)
BATCH, SHORT = 64, 32  # short rows hold every caption; the last quarter of training sees whole rows
ANSWERS: dict[str, tuple[str, ...]] = {
    "noun": NOUNS,
    "first": tuple(COLOURS),
    "second": tuple(COLOURS),
    "pattern": PATTERNS,
    "part": PARTS,
    "place": tuple(PLACES),
    "companion": COMPANIONS,
    "style": STYLES,
}
OF_THE_NOUN = ("noun", "first", "second", "pattern")


def told(scene: Scene, words: str) -> list[int]:
    """Per question the number of the answer that the caption gives; one past the last where it is silent."""
    thing, said = scene.thing, set(words.split())
    look = thing.first in said
    values = {
        "noun": thing.noun,
        "first": thing.first if look else None,
        "second": thing.second if look else None,
        "pattern": thing.pattern if look else None,
        "part": thing.part if thing.part in said else None,
        "place": scene.place if PLACES[scene.place] in words else None,
        "companion": scene.companion if scene.companion in said else None,
        "style": scene.style,
    }
    return [ANSWERS[q].index(v) if v is not None else len(ANSWERS[q]) for q, v in values.items()]


class Questions(nn.Module):
    """The encoder and one linear reading per question; the readings are thrown away afterwards."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.params.width
        self.at_noun = nn.ModuleDict({q: nn.Linear(width, len(ANSWERS[q]) + 1) for q in OF_THE_NOUN})
        self.at_end = nn.ModuleDict({q: nn.Linear(width, len(a) + 1) for q, a in ANSWERS.items()})
        self.itself = nn.Linear(width, encoder.params.entries)


def train(folder: Path, pictures_count: int, stage: Stage = STAGE) -> TextEncoder:
    """The trained text encoder (and the tokenizer's files, where they are missing)."""
    # The tokenizer and the task
    torch.manual_seed(stage.seed)
    if not (FOLDER / "vocab.json").exists():  # another one would number its entries differently
        train_tokenizer(every_word(), IN_TWO_PIECES)
    tokenizer = load_tokenizer()
    begin, end = marks()
    pieces = {noun: tokenizer.encode(noun).ids for noun in NOUNS}
    task = Questions(TextEncoder(TextParams(tokenizer.get_vocab_size())))

    # A batch of captions with their questions
    def sample(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        rows, at_noun, at_end, answers = [], [], [], []
        for _ in range(BATCH):
            scene = random_scene(rng, HELD_OUT_LOOKS)
            words = caption(scene, rng)
            ids = tokenizer.encode(words).ids
            last = pieces[scene.thing.noun][-1]
            rows.append(frame(ids, begin, end))
            at_noun.append(1 + ids.index(last))
            at_end.append(1 + len(ids))
            answers.append(told(scene, words))
        return torch.stack(rows), torch.tensor(at_noun), torch.tensor(at_end), torch.tensor(answers)

    # Every question at its place
    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows, at_noun, at_end, answers = sample(generator)
        length = LENGTH if step > 0.75 * stage.steps else SHORT
        rows = rows[:, :length]
        hidden = task.encoder(task.encoder.embeddings.token_embedding(rows))
        every = torch.arange(BATCH)
        padding = at_end + (torch.rand(BATCH, generator=generator) * (length - at_end)).long()
        losses, right = [cross_entropy(task.itself(hidden).flatten(0, 1), rows.flatten())], []
        for place, readings in ((at_noun, task.at_noun), (at_end, task.at_end), (padding, task.at_end)):
            for question, reading in readings.items():
                answer = answers[:, list(ANSWERS).index(question)]
                guess = reading(hidden[every, place])
                losses.append(cross_entropy(guess, answer))
                right.append((guess.argmax(-1) == answer).float().mean())
        return torch.stack(losses).mean(), {"right": float(torch.stack(right).mean())}

    report("text", run_stage("text", task, loss_of, stage, folder, shipped=task.encoder), stage.steps)
    task.load_state_dict(averaged("text", folder))
    return task.encoder.eval()
