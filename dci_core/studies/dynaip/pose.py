"""References of known pose, and a simple reading of a sample's pose: the object's own template, tried everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from ...tiny.world.concepts import HeldOut
from ...tiny.world.scene import PICTURE_SIZE, Pose, Rendered, Scene, Thing, paint_thing, render
from ...tiny.world.words import NEVER
from ..gates.trial import to_tensor

FACTORS = ("x", "size", "side", "light")
SEED = 727_000
SIDES = {"x": (0.38, 0.62), "size": (0.27, 0.35)}  # within what training pairs show
LEVEL = 0.56  # of the object's centre, from the top
DARK, BRIGHT = ("night", "forest"), ("snow", "kitchen")  # the first that the noun may be seen in
DESIGN = tuple((a, b, c, a * b * c) for a, b, c in product((-1, 1), repeat=3))  # each factor apart from the others
COARSE = 4  # pixels of a cell in which templates are compared
ASIDE = 6  # cells that a template is moved to either side, 0.19 of the picture
HALVES = (0.23, 0.25, 0.27, 0.29, 0.31, 0.33, 0.35, 0.37, 0.39)
EDGE = 4  # cells on either side that show the ground alone
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posed:
    """A reference and the truth about it: factor -> x (0 left, 1 right), half width, side (1: flipped), light."""

    rendered: Rendered
    truth: dict[str, float]


def posed_references(thing: HeldOut) -> list[Posed]:
    """Eight references, one for each row of DESIGN; light is the place's own, dark or bright."""
    rng, never = np.random.default_rng(SEED + thing.number), NEVER[thing.thing.noun]
    dark, bright = (next(p for p in places if p not in never) for places in (DARK, BRIGHT))
    found = []
    for x, size, side, light in DESIGN:
        pose = Pose(SIDES["x"][x > 0], LEVEL, SIDES["size"][size > 0], side > 0)
        rendered = render(Scene(thing.thing, bright if light > 0 else dark), rng, pose)
        found.append(Posed(rendered, truth_of(pose, rendered)))
    return found


def truth_of(pose: Pose, rendered: Rendered) -> dict[str, float]:
    """The four factors of a rendered picture."""
    light = float(light_of(to_tensor([rendered]))[0])
    return {"x": pose.x, "size": pose.half, "side": 1.0 if pose.is_mirrored else -1.0, "light": light}


def light_of(pictures: Tensor) -> Tensor:
    """Mean brightness [b] in 0..1 of pictures [b 3 h w]."""
    return (pictures * pictures.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(dim=1).mean(dim=(1, 2))


@dataclass(frozen=True)
class Templates:
    """The object alone in every pose tried: colours [k 3 s s] on black, cover [k 3 s s] in 0..1, poses [k 3].

    poses hold x, half width and side (1: flipped)
    """

    colours: Tensor
    cover: Tensor
    poses: Tensor

    def read(self, pictures: Tensor) -> Tensor:
        """[b 3]: x, half width and side of the template that explains each picture [b 3 128 128] best.

        A picture is the template over ground of one colour a row, which the edges left and right show.
        """
        cells = avg_pool2d(pictures, COARSE)
        edges = torch.cat((cells[..., :EDGE], cells[..., -EDGE:]), dim=3)
        ground = edges.mean(dim=3, keepdim=True)
        rest = cells - ground
        wrong = (  # the sum of (colours - cover * ground - rest)^2 over cells, multiplied out, without rest^2
            self.colours.square().flatten(1).sum(dim=1)
            + ground.square().flatten(1) @ self.cover.square().sum(dim=3).flatten(1).T
            - 2 * ground.flatten(1) @ (self.colours * self.cover).sum(dim=3).flatten(1).T
            - 2 * rest.flatten(1) @ self.colours.flatten(1).T
            + 2 * (ground * rest).flatten(1) @ self.cover.flatten(1).T
        )
        return self.poses[wrong.argmin(dim=1)]


def templates_of(thing: Thing) -> Templates:
    """Every pose of a grid, in both flips: painted in the middle once for each size, then moved by whole cells."""
    colours, cover, poses = list[Tensor](), list[Tensor](), list[tuple[float, float, float]]()
    for half in HALVES:
        black, white = avg_pool2d(torch.stack([paint(thing, half, ground) for ground in (0, 255)]), COARSE)
        for right, down in product(range(-ASIDE, ASIDE + 1), (-1, 0, 1)):
            colours.append(moved(black, right, down))
            cover.append(moved(1 - (white - black), right, down))
            poses.append((0.5 + right * COARSE / PICTURE_SIZE, half, -1.0))
    flipped = [(1 - x, half, 1.0) for x, half, _ in poses]
    return Templates(in_both_flips(colours), in_both_flips(cover), torch.tensor(poses + flipped))


def in_both_flips(cells: Sequence[Tensor]) -> Tensor:
    """[2k 3 s s] of k times [3 s s]: as they are, then flipped."""
    there = torch.stack(list(cells))
    return torch.cat((there, there.flip(-1)))


def moved(cells: Tensor, right: int, down: int) -> Tensor:
    """Cells [3 s s] moved, zero where nothing came from; what leaves is lost."""
    padded = pad(cells, (ASIDE,) * 4)
    size = cells.shape[-1]
    top, left = ASIDE - down, ASIDE - right
    return padded[:, top : top + size, left : left + size]


def paint(thing: Thing, half: float, ground: int) -> Tensor:
    """[3 128 128]: the object on an even ground, in the middle and at its usual height."""
    size = PICTURE_SIZE
    picture = Image.new("RGB", (size, size), (ground,) * 3)
    paint_thing(picture, thing, (size * 0.5, size * LEVEL), size * half)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


def measure(pictures: Tensor, templates: Templates) -> dict[str, list[float]]:
    """Each factor of pictures [b 3 128 128], a number a picture."""
    x, size, side = templates.read(pictures).unbind(1)
    values = {"x": x, "size": size, "side": side, "light": light_of(pictures)}
    return {name: [round(v, 5) for v in value.tolist()] for name, value in values.items()}


def copying(measured: Array, truth: Sequence[float], factor: str) -> Array:
    """How much of a factor's change in the references is seen in the samples: 0 nothing, 1 all of it.

    measured  [... 8], of samples with the references of DESIGN
    truth     [8], of those references
    """
    signs = np.array(DESIGN, dtype=np.float64)[:, FACTORS.index(factor)]
    return np.asarray((measured @ signs) / (np.array(truth) @ signs))
