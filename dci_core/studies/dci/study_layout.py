"""Layout: does a box carry the concept to where it is asked? Hit rate and likeness, beside the same prompts without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...attention.regions import BOXES, read_box
from ...concept.learned import Concept
from ...concept.together import Part, Together
from ...dci.run import sample_latents
from ...model import Model
from ...noise.schedule import sd_schedule
from ...text.prompts import Prompts, encode_text
from ...text.tokens import PromptPair
from ...tiny.world.concepts import OBJECTS
from ...tiny.world.scene import Scene, render
from ...tiny.world.words import PLACES
from ..gates.maps import noun_maps, noun_places
from ..gates.trial import asks_for, to_tensor
from .cells import Bench, PictureCell, key_of, pair_of
from .dials import Way, with_dci
from .ground import Lesson
from .judge_scores import Numbers, judge_panel
from .protocol import Ground, Size
from .statistics import Array, mean
from .tables import NumbersByName, Results, difference

LOOK = 500  # timestep at which the untrained model is asked where the noun is; gate 2 looks there
SEED = 515_000
NO_BOX = ""
TRUE_PICTURES = 4  # of each place
JUDGED = ("likeness", "following", "has_noun")


@dataclass(frozen=True)
class LayoutCell(PictureCell):
    """All prompts and seeds of one concept with a box, or without one, and where the object came to be."""

    box: str

    def play(self, bench: Bench) -> Numbers:
        """Per picture [prompts][seeds]: x and y of the object's centre as shares, and what the judge says."""
        model, concept = bench.tuned(self.concept, self.training, self.step)
        thing, drawn = OBJECTS[self.concept], list[Tensor]()
        for number in self.prompts:
            pair = pair_of(model, concept, asks_for(thing), number, self.way)
            run = sample_latents(
                model,
                Prompts.from_pair(model, pair),
                seeds=self.seeds,
                settings=self.way.sample,
                dci=self.way.dci,
                together=boxed(pair, concept, self.box),
            )
            drawn.append(run.concept)
        latents = torch.cat(drawn)
        with torch.no_grad():
            pictures = bench.decoder.decode(latents).cpu()
        centres = centre_of(bench.world.model, latents, thing.thing.noun).reshape(len(self.prompts), -1, 2)
        found = judge_panel(bench, self.concept, self.prompts, pictures)
        return {**found, "x": centres[..., 0].tolist(), "y": centres[..., 1].tolist()}


@dataclass(frozen=True)
class TrueCentreCell:
    """A control: how often the measured centre lies on the object in true pictures, whose masks are known."""

    concept: int

    @property
    def lesson(self) -> Lesson | None:
        """None: the untrained model looks."""
        return None

    @property
    def cost(self) -> int:
        """A look at each picture."""
        return len(PLACES) * TRUE_PICTURES

    def play(self, bench: Bench) -> Numbers:
        """on_object [pictures], 1 where the centre is on the object's box."""
        rng, thing = np.random.default_rng(SEED + self.concept), OBJECTS[self.concept].thing
        rendered = [render(Scene(thing, place), rng) for place in PLACES for _ in range(TRUE_PICTURES)]
        with torch.no_grad():
            latents = bench.world.codec.encode(to_tensor(rendered))
        centres = centre_of(bench.world.model, latents, thing.noun)
        boxes = [edges(np.asarray(one.mask) > 127) for one in rendered]
        return {"on_object": [float(is_in(c, box)) for c, box in zip(centres.tolist(), boxes, strict=True)]}


def boxed(pair: PromptPair, concept: Concept, box: str) -> Together | None:
    """The concept heard in the box alone, its stand-in likewise; None without a box."""
    region = read_box(box)
    if region is None:
        return None
    tokens = pair.tokens
    part = Part(tokens.concept.span, tokens.auxiliary.span, concept.deltas, 1.0, region)
    return Together((part,), tokens.concept.length, tokens.auxiliary.length)


@torch.no_grad()
def centre_of(model: Model, latents: Tensor, noun: str) -> Tensor:
    """[b 2] (x, y) of the noun's attention in the untrained model, as shares of the picture.

    The mean over layers of its finest and second finest grids, each less its median, at half noise.
    """
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(LOOK)).to(latents)
    sigma, prompt = sd_schedule().sigma(LOOK), f"a {noun}"
    maps = noun_maps(
        model, latents + sigma * noise, sigma, encode_text(model, prompt), noun_places(model, prompt, noun)
    )
    finest = max(plane.shape[-1] for plane in maps.values())
    total = torch.zeros(len(latents), finest, finest)
    for plane in maps.values():
        scale = finest // plane.shape[-1]
        if scale <= 2:
            total += (
                plane.repeat_interleave(scale, 1).repeat_interleave(scale, 2).cpu() / plane.amax((1, 2), True).cpu()
            )
    above = (total - total.flatten(1).median(dim=1).values[:, None, None]).clamp(min=0)
    weight = above.square() / above.square().sum((1, 2), keepdim=True)
    at = (torch.arange(finest) + 0.5) / finest
    return torch.stack(((weight.sum(1) * at).sum(-1), (weight.sum(2) * at).sum(-1)), dim=-1)


def edges(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """(x, y, width, height) of what is true in a mask [h w], as shares."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    x, y = columns[0] / width, rows[0] / height
    return x, y, (columns[-1] + 1) / width - x, (rows[-1] + 1) / height - y


def is_in(centre: Sequence[float], box: tuple[float, float, float, float]) -> bool:
    """Whether (x, y) lies in (x, y, width, height)."""
    return all(start <= at <= start + length for at, start, length in zip(centre, box[:2], box[2:], strict=True))


def ways(size: Size) -> dict[str, Way]:
    """Plain sampling and DCI at its defaults."""
    return {"plain": size.plain, "DCI": with_dci(size.plain)}


def cells(size: Size, ground: Ground) -> list[LayoutCell | TrueCentreCell]:
    """Every way without a box and with each, and the control."""
    panel = size.anatomy
    drawn = [
        LayoutCell(concept, ground.training, ground.main, way, panel.prompts, panel.seeds, box)
        for concept in panel.concepts
        for way in ways(size).values()
        for box in (NO_BOX, *BOXES)
    ]
    return [*drawn, *(TrueCentreCell(concept) for concept in panel.concepts)]


def numbers(size: Size, ground: Ground, results: Results) -> dict[str, Any]:
    """Per way and measure: with the boxes, without, and the difference, each from the same pictures' draws.

    A picture without a box counts once for each box, as a hit where the object happens to stand in it.
    """
    found: dict[str, Any] = {}
    for name, way in ways(size).items():
        free = drawn(size, ground, results, way, NO_BOX)
        held = {box: drawn(size, ground, results, way, box) for box in BOXES}
        arrays = {
            "hit": ([hits(free, box) for box in BOXES], [hits(one, box) for box, one in held.items()]),
            **{kind: ([free[kind]] * len(BOXES), [one[kind] for one in held.values()]) for kind in JUDGED},
        }
        found[name] = {kind: beside(*(np.concatenate(part, axis=-1) for part in both)) for kind, both in arrays.items()}
        found[name]["hit by box"] = {box: mean(hits(one, box)).row() for box, one in held.items()}
    control = [results[key_of(cell)]["on_object"] for cell in cells(size, ground) if isinstance(cell, TrueCentreCell)]
    asked = {"objects": len(size.anatomy.concepts), "seeds": len(size.anatomy.seeds)}
    return {"ways": found, "centre_on_object": float(np.mean(control)), **asked}


def drawn(size: Size, ground: Ground, results: Results, way: Way, box: str) -> dict[str, Array]:
    """Numbers of one way with one box, each [concepts prompts seeds]."""
    panel = size.anatomy
    asked = (ground.training, ground.main, way, panel.prompts, panel.seeds, box)
    rows = [results[key_of(LayoutCell(concept, *asked))] for concept in panel.concepts]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in ("x", "y", *JUDGED)}


def hits(found: Mapping[str, Array], box: str) -> Array:
    """1 where the object's centre is in the box."""
    x, y, width, height = BOXES[box]
    inside = (found["x"] >= x) & (found["x"] <= x + width) & (found["y"] >= y) & (found["y"] <= y + height)
    return inside.astype(np.float64)


def beside(without: Array, with_box: Array) -> NumbersByName:
    """Both means and their difference."""
    lead = difference(with_box, without).row()
    return {"without": mean(without).row(), "with": mean(with_box).row(), "difference": lead}
