"""The validation sheet: the same few pairs drawn again and again while the adapter learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...ico.state import generator_for
from ...pictures.paper import FAINT, GAP, PAPER, Pen, to_image
from ..adapter import Adapter
from ..fusion import level_entropy
from ..subject import Subject
from .base import FlowBase
from .lesson import DECOUPLED, TRAINED, Lesson, make_batch, reading_rule
from .pairs import Pair, PairSource, to_pixels
from .settings import AdapterSettings

CHECK_SEED = 7_000_003  # of the sheet's pairs, apart from those of any training
NUM_STEPS = 20
MARGIN, WORDS, HEAD, NOTE = 20, 170, 96, 14  # pixels: edge, caption column, above the pictures, letters
COLUMNS: dict[str, Subject | None] = {  # Source: facts 1 and 3
    "no reference": None,
    "text scale 0, as at inference": DECOUPLED,
    "text scale 1, as trained": TRAINED,
}


@dataclass(frozen=True)
class Check:
    """What the sheet's pairs tell.

    losses  of the flow, by text scale: 1 as trained, 0 as at inference
    shares  mean weight of each level, lowest level first
    """

    losses: dict[float, float]
    shares: tuple[float, ...]

    @property
    def entropy(self) -> float:
        """Of the shares, as a part of the largest possible: 1 all levels alike, 0 one level alone."""
        return float(level_entropy(torch.tensor(self.shares)))


def check_pairs(source: PairSource, count: int) -> list[Pair]:
    """The sheet's pairs, always the same ones; of a folder these are pairs that training also sees."""
    return [source.pair(place, CHECK_SEED, 0.0) for place in range(0, 2 * count, 2)]


@torch.no_grad()
def measure(base: FlowBase, adapter: Adapter, pairs: Sequence[Pair], settings: AdapterSettings) -> Check:
    """The losses of the pairs with no drops, at fixed times and noise."""
    device = next(adapter.parameters()).device
    steady = replace(settings, drop_image=0.0, drop_text=0.0, drop_both=0.0, same_picture=0.0, seed=CHECK_SEED)
    batch = make_batch(base, pairs, range(len(pairs)), steady, device)
    lesson = Lesson(adapter, base)
    found = {subject.text_scale: lesson(batch, subject) for subject in (TRAINED, DECOUPLED)}
    losses = {scale: float(loss) for scale, (loss, _) in found.items()}
    return Check(losses, tuple(found[1.0][1].tolist()))


@torch.no_grad()
def draw_pairs(base: FlowBase, adapter: Adapter, pairs: Sequence[Pair], subject: Subject | None) -> Tensor:
    """Pictures [b 3 h w] of the pairs' captions with their references; None: of the captions alone."""
    device = next(adapter.parameters()).device
    states = base.states(to_pixels([pair.reference for pair in pairs], device))
    rule = None if subject is None else reading_rule(adapter, states, subject)
    text, empty = base.encode([pair.caption for pair in pairs]), base.encode([""] * len(pairs))
    shape = base.latents(to_pixels([pairs[0].target], device)).shape[1:]
    noise = [torch.randn(shape, generator=generator_for(CHECK_SEED, "sheet", i)) for i in range(len(pairs))]
    x, times = torch.stack(noise).to(device), base.schedule(NUM_STEPS).to(device)
    for now, then in zip(times[:-1], times[1:], strict=True):
        t = now.expand(len(pairs))
        velocity = base.velocity(x, t, text, rule)
        if base.cfg != 1:  # negative rows never read the reference
            plain = base.velocity(x, t, empty)
            velocity = plain + base.cfg * (velocity - plain)
        x = x + (then - now) * velocity.float()
    return base.pictures(x)


def draw_check(
    base: FlowBase, adapter: Adapter, pairs: Sequence[Pair], title: str, check: Check, side: int = 144
) -> Image.Image:
    """The sheet: a row for each pair, its reference and its target first, then what the base draws."""
    drawn = [draw_pairs(base, adapter, pairs, subject) for subject in COLUMNS.values()]
    given = [to_pixels([getattr(pair, name) for pair in pairs]) for name in ("reference", "target")]
    names = ("reference", "one target", *COLUMNS)
    width = 2 * MARGIN + WORDS + len(names) * (side + GAP)
    sheet = Image.new("RGB", (width, HEAD + MARGIN + len(pairs) * (side + GAP)), PAPER)
    pen = Pen(ImageDraw.Draw(sheet))
    pen.write((MARGIN, MARGIN - 4), title, NOTE + 3)
    pen.write((MARGIN, MARGIN + 20), describe(check), NOTE, FAINT)
    for column, (name, pictures) in enumerate(zip(names, (*given, *drawn), strict=True)):
        x = MARGIN + WORDS + column * (side + GAP)
        pen.wrap((x, HEAD - 36), name, side, NOTE - 2)
        for row, picture in enumerate(pictures):
            sheet.paste(to_image(picture, side), (x, HEAD + row * (side + GAP)))
    for row, pair in enumerate(pairs):
        pen.wrap((MARGIN, HEAD + row * (side + GAP)), pair.caption, WORDS - MARGIN, NOTE)
    return sheet


def describe(check: Check) -> str:
    """The check in one line."""
    shares = ", ".join(f"{share:.2f}" for share in check.shares)
    losses = ", ".join(f"{loss:.4f} at text scale {scale:g}" for scale, loss in check.losses.items())
    return f"loss {losses}; levels from low to high {shares} (entropy {check.entropy:.2f} of 1)"
