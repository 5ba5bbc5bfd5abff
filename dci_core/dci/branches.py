"""The branch axis: which latents there are, which rows of a model call run, and how the user sets it all.

Latents are `(b branch) c h w`, a model call's batch is `(chunk b branch)`; only `pair`, `unpair` and the row plan know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from ..attention.layers import LayerMask
from ..errors import BadSettings
from ..families.unet import Family
from ..indices import indices_on
from .dbim import DbimSettings
from .maps import BranchRows

Guidance = Literal["shared", "separate", "aligned"]
GUIDANCE = ("shared", "separate", "aligned")
GAINS = ("reference", "scaled")
AUXILIARY_STREAM = 0x1E3779B97F4A7C15  # 2^64 / golden ratio without its top bits; flips low bits, so streams never meet


def pair(concept: Tensor, auxiliary: Tensor) -> Tensor:
    """Two branches as one batch: [b ...] and [b ...] -> [(b branch) ...]."""
    return rearrange([concept, auxiliary], "branch b ... -> (b branch) ...")


def unpair(both: Tensor) -> tuple[Tensor, Tensor]:
    """(concept, auxiliary) rows of a paired batch: [(b branch) ...] -> [b ...] and [b ...]."""
    concept, auxiliary = rearrange(both, "(b branch) ... -> branch b ...", branch=2)
    return concept, auxiliary


def for_all(rows: Tensor, is_one: bool) -> Tensor:
    """The first row for all where one auxiliary serves the batch, else the rows as they are; [b ...] in and out."""
    return rows[:1].expand_as(rows) if is_one else rows


def auxiliary_seed(seed: int) -> int:
    """Seed of the auxiliary branch's noise, in 0..2^63-1; never the same stream as the concept's own."""
    return (seed ^ AUXILIARY_STREAM) & (2**63 - 1)


@dataclass(frozen=True)
class DciSettings:
    """How DCI acts in one run.

    window        fraction of the training schedule, from its noisy end, in which DCI acts; 0 is off
    strength      the paper's lambda: 1 balanced, 0 a neutral blend (not off), larger gives the context more room
    guidance      "shared": the concept latent's unconditional serves both, 3 rows for 2; "separate": 4 rows;
                  "aligned": separate, and both branches start from the same noise
    gain          "reference": the released constant; "scaled": in proportion to the image tokens (see families.py)
    layers        which layers integrate, and how far
    region        [h w] or [b h w] in 0..1, where in the picture it acts; None: everywhere
    fixed_weight  a control: this share for the concept everywhere, in 0..1, instead of the attention maps
    inverts_noun  a control: the auxiliary map inverted, as in the newest released state
    one_auxiliary   one auxiliary picture serves the whole batch (`separate` alone); each picture's auxiliary then saw
                    the first one's noise
    auxiliary_seed  of the auxiliary noise of every picture; None: derived from each picture's own
    """

    window: float = 0.3  # released code's default
    strength: float = 1.0
    guidance: Guidance = "shared"
    gain: Literal["reference", "scaled"] = "scaled"
    layers: LayerMask = LayerMask()
    region: Tensor | None = field(default=None, compare=False)
    fixed_weight: float | None = None
    inverts_noun: bool = False
    one_auxiliary: bool = False
    auxiliary_seed: int | None = None

    def is_off(self, family: Family) -> bool:
        """Whether nothing is to be installed: a closed window, or no layer with a share."""
        return self.window == 0 or not any(self.layers.shares(family.reference_tokens).values())

    def dbim(self, family: Family) -> DbimSettings:
        """What the attention rule needs for this family; raises BadSettings and BadLayers."""
        check_choice("guidance", self.guidance, GUIDANCE)
        check_choice("gain", self.gain, GAINS)
        if self.one_auxiliary and self.guidance != "separate":
            raise BadSettings(
                f"one auxiliary for the batch came with guidance {self.guidance!r}",
                "`separate` is expected: in the others every auxiliary depends on its own picture",
                "choose `separate`, or give each picture its auxiliary",
            )
        if not math.isfinite(self.strength):
            raise BadSettings(f"the strength is {self.strength}", "a number is expected", "use about -2 to 2")
        if self.fixed_weight is not None and not 0 <= self.fixed_weight <= 1:
            raise BadSettings(f"the fixed weight is {self.fixed_weight}", "0..1 is expected", "use 0.5, or None")
        if self.region is not None and not bool(((self.region >= 0) & (self.region <= 1)).all()):
            raise BadSettings("the region holds values outside 0..1", "shares in 0..1 are expected", "clip the mask")
        return DbimSettings(
            shares=self.layers.shares(family.reference_tokens),
            strength=self.strength,
            reference_tokens=family.reference_tokens if self.gain == "scaled" else None,
            region=self.region,
            fixed_weight=self.fixed_weight,
            inverts_noun=self.inverts_noun,
        )

    def auxiliary_seeds(self, seeds: Sequence[int]) -> list[int]:
        """Seeds of the auxiliary noise, one for each picture's."""
        if self.auxiliary_seed is not None:
            return [self.auxiliary_seed] * len(seeds)
        return [auxiliary_seed(seeds[0] if self.one_auxiliary else seed) for seed in seeds]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises BadSettings where the value is not among the choices."""
    if value not in choices:
        raise BadSettings(f"{name} is {value!r}", f"one of {', '.join(choices)} is expected", "choose one")


@dataclass(frozen=True)
class RowPlan:
    """Which rows of a `(chunk b branch)` batch run, and where the rest comes from.

    num_rows  rows of the whole batch
    runs      those that the model computes, rising
    branches  the concept and auxiliary rows that DBIM joins, counted among those that run; empty when it does not act
    borrows   (row, from): auxiliary rows that take the estimate of noise of another row instead of running
    """

    num_rows: int
    runs: tuple[int, ...]
    branches: BranchRows
    borrows: tuple[tuple[int, int], ...]

    def take(self, batch: Tensor) -> Tensor:
        """The rows that run, of anything that has a row for each of the batch."""
        return batch if len(self.runs) == self.num_rows else batch.index_select(0, indices_on(self.runs, batch.device))

    def fill(self, x: Tensor, x0: Tensor) -> Tensor:
        """Predictions for the whole batch from those of the rows that ran, both as x0 in the scale of x.

        x   [(chunk b branch) c h w], the whole batch's noisy latents
        x0  [rows c h w], what the model gave for `take(x)`
        A row that did not run returns its input; a borrowed one is x0 of the other latent, moved by y - x, since both
        have the same estimate of noise. Where both latents are the same, so are the bits.
        """
        if len(self.runs) == self.num_rows:
            return x0
        full = x.index_copy(0, indices_on(self.runs, x.device), x0)
        if not self.borrows:
            return full
        rows, sources = (indices_on(part, x.device) for part in zip(*self.borrows, strict=True))
        moved = full.index_select(0, sources) + (x.index_select(0, rows) - x.index_select(0, sources))
        return full.index_copy(0, rows, moved)


def plan_rows(
    is_cond: Sequence[bool], num_pictures: int, *, acts: bool, guidance: Guidance, one_auxiliary: bool = False
) -> RowPlan:
    """The row plan of one model call on paired latents.

    is_cond        for each chunk of the batch whether it is conditional; one without the prompt is not
    num_pictures   b
    acts           whether the window is open
    one_auxiliary  the first picture's auxiliary row runs for all, whose latents must be the same
    """
    runs: list[int] = []
    borrows: list[tuple[int, int]] = []
    concept: list[int] = []
    auxiliary: list[int] = []
    for pair_index in range(len(is_cond) * num_pictures):
        row, other = 2 * pair_index, 2 * pair_index + 1
        first = other - 2 * (pair_index % num_pictures) if one_auxiliary else other
        source = row if guidance == "shared" and not is_cond[pair_index // num_pictures] else first
        runs.append(row)
        if not acts:
            continue
        if source == other:
            runs.append(other)
        else:
            borrows.append((other, source))
        if is_cond[pair_index // num_pictures]:
            concept.append(runs.index(row))
            auxiliary.append(runs.index(source))
    branches = BranchRows(tuple(concept), tuple(auxiliary))
    return RowPlan(2 * num_pictures * len(is_cond), tuple(runs), branches, tuple(borrows))


def start_noise(concept: Tensor, auxiliary: Tensor, guidance: Guidance) -> Tensor:
    """Paired noise to start from, [(b branch) c h w]: `aligned` gives both branches the concept's."""
    return pair(concept, concept if guidance == "aligned" else auxiliary)


class NoiseStream:
    """Noise for several pictures, a generator each: a picture's noise depends on its seed, not on its batch.

    Made on the CPU in float32, so that every device sees the same numbers.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(self) -> Tensor:
        """The next noise, [b c h w]."""
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators])
