"""Trains the judge: thousands of individuals, each in several places; reads pictures as the codec gives them."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from ..codec import Codec
from ..judge import QUESTIONS, Judge
from ..world.concepts import HELD_OUT_LOOKS
from ..world.scene import PICTURE_SIZE, Scene, random_thing, render
from ..world.words import COMPANIONS, NOUNS, PLACES, STYLES
from .loop import Stage, averaged, channels_last, report, run_stage

STAGE = Stage(steps=900, minutes=60, lr=2e-3, warm_up=50, average=0.995, save_every=100)
VIEWS, PER_NOUN = 6, 250  # pictures of an individual, individuals of a noun
NOUNS_AT_ONCE, INDIVIDUALS, VIEWS_AT_ONCE = 4, 6, 3  # a batch: strangers of the same noun are the hard ones
TEMPERATURE = 0.1
Bytes = NDArray[np.uint8]


def render_noun(number: int) -> tuple[Bytes, NDArray[np.int64]]:
    """PER_NOUN individuals of a noun, VIEWS pictures each: [i v h w 3], and answers to QUESTIONS [i v 4]."""
    rng = np.random.default_rng(900_000 + number)
    pictures = np.empty((PER_NOUN, VIEWS, PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)
    answers = np.empty((PER_NOUN, VIEWS, len(QUESTIONS)), np.int64)
    for i in range(PER_NOUN):
        thing = random_thing(rng, NOUNS[number])
        while thing.look in HELD_OUT_LOOKS:
            thing = random_thing(rng, NOUNS[number])
        for v in range(VIEWS):
            companion = COMPANIONS[rng.integers(len(COMPANIONS))] if rng.random() < 0.5 else None
            style = STYLES[rng.integers(1, len(STYLES))] if rng.random() < 0.15 else STYLES[0]
            scene = Scene(thing, list(PLACES)[rng.integers(len(PLACES))], companion, style)
            pictures[i, v] = np.asarray(render(scene, rng).picture)
            told = (thing.noun, scene.place, companion or "nothing", style)
            answers[i, v] = [QUESTIONS[q].index(a) for q, a in zip(QUESTIONS, told, strict=True)]
    return pictures, answers


def individuals(folder: Path) -> tuple[Bytes, NDArray[np.int64]]:
    """All individuals, through the codec for half of their views: [noun i v h w 3] and answers [noun i v 4]."""
    pictures_file, answers_file = folder / "individuals.npy", folder / "individual-answers.npy"
    if not answers_file.exists():
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            parts = list(pool.map(render_noun, range(len(NOUNS))))
        pictures = np.stack([part[0] for part in parts])
        through_codec(pictures[:, :, : VIEWS // 2], folder)
        np.save(pictures_file, pictures)
        np.save(answers_file, np.stack([part[1] for part in parts]))
    return np.load(pictures_file, mmap_mode="r"), np.load(answers_file)


@torch.no_grad()
def through_codec(pictures: Bytes, folder: Path) -> None:
    """Replaces pictures [... h w 3] by what the codec makes of them."""
    codec = Codec()
    codec.load_state_dict(load_file(folder / "codec.safetensors"))
    codec = channels_last(codec.eval())
    for index in np.ndindex(pictures.shape[:2]):
        batch = (
            torch.from_numpy(pictures[index]).permute(0, 3, 1, 2).to(memory_format=torch.channels_last).float() / 255
        )
        latents = codec.encode(batch)
        result = codec.decode(latents + 0.1 * torch.rand(1) * torch.randn_like(latents))
        pictures[index] = (result * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def worsened(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures blurred and noised by chance."""
    blurred = interpolate(avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
    amount = torch.rand(len(pictures), 1, 1, 1, generator=generator)
    noise = torch.randn(pictures.shape, generator=generator) * 0.06 * torch.rand(amount.shape, generator=generator)
    return (pictures + amount * (blurred - pictures) + noise).clamp(0, 1)


def same_individual_loss(identity: Tensor, owner: Tensor) -> Tensor:
    """Supervised contrast: views of one individual attract, all others repel. identity [b c], owner [b]."""
    logits = identity @ identity.T / TEMPERATURE
    itself = torch.eye(len(owner), dtype=torch.bool)
    logits = logits.masked_fill(itself, float("-inf"))
    positives = (owner[:, None] == owner[None]) & ~itself
    log_odds = logits.log_softmax(dim=1).masked_fill(~positives, 0.0)
    return -(log_odds.sum(dim=1) / positives.sum(dim=1)).mean()


def train(folder: Path, pictures_count: int, stage: Stage = STAGE) -> Judge:
    """The trained judge (moving average)."""
    torch.manual_seed(stage.seed)
    pictures, answers = individuals(folder)
    judge = channels_last(Judge())
    batch = NOUNS_AT_ONCE * INDIVIDUALS

    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        nouns = torch.randperm(len(NOUNS), generator=generator)[:NOUNS_AT_ONCE].repeat_interleave(INDIVIDUALS)
        each = torch.cat([torch.randperm(PER_NOUN, generator=generator)[:INDIVIDUALS] for _ in range(NOUNS_AT_ONCE)])
        views = torch.stack([torch.randperm(VIEWS, generator=generator)[:VIEWS_AT_ONCE] for _ in range(batch)])
        index = (nouns[:, None].numpy(), each[:, None].numpy(), views.numpy())
        seen = torch.from_numpy(pictures[index]).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        right = torch.from_numpy(answers[index]).flatten(0, 1)
        logits, identity = judge(worsened(seen, generator).to(memory_format=torch.channels_last))
        questions = [cross_entropy(logits[q], right[:, i]) for i, q in enumerate(QUESTIONS)]
        hits = [(logits[q].argmax(1) == right[:, i]).float().mean() for i, q in enumerate(QUESTIONS)]
        owner = torch.arange(batch).repeat_interleave(VIEWS_AT_ONCE)
        contrast = same_individual_loss(identity, owner)
        return torch.stack(questions).sum() + contrast, {
            "right": float(torch.stack(hits).mean()),
            "contrast": float(contrast),
        }

    report("judge", run_stage("judge", judge, loss_of, stage, folder), stage.steps)
    judge.load_state_dict(averaged("judge", folder))
    return judge.eval()
