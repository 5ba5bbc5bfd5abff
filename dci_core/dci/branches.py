"""The branch axis of latents, `(b branch) c h w`, and how the user sets DCI.

Only `pair`, `unpair` and the row plan know where a branch lies.
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
from ..families.family import Family
from ..fingerprint import LATER
from .dbim import FORMS, Balance, DbimSettings
from .row_plan import Guidance

GUIDANCE = ("shared", "separate", "aligned")
GAINS = ("reference", "scaled", "shifted")
AUXILIARY_STREAM = 0x1E3779B97F4A7C15  # 2^64 / golden ratio without its top bits; flips low bits, so streams never meet


def usual_guidance(family: Family) -> Guidance:
    """What serves a family where nobody chooses: the released code's `shared`; `aligned` on flows.

    On flows the borrowed unconditional pulls the branches together far less, and there is none at cfg 1 (methods,
    transformers, 6).
    """
    return "aligned" if family.is_flow else "shared"


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


@dataclass(frozen=True, kw_only=True)
class DciSettings(Balance):
    """How DCI acts in one run.

    window        fraction of the training schedule, or of a flow's own time, from the noisy end, in which DCI acts.
                  Higher: more of the scene, less likeness; 0 is off
    guidance      "shared": the concept latent's unconditional serves both, 3 rows for 2; "separate": 4 rows;
                  "aligned": separate, and both branches start from the same noise
    gain          "reference": the released constant; "scaled": in proportion to the image tokens (see families.py);
                  "shifted": scaled, with the strength as a shift of the balance
    layers        which layers integrate, and how far. Higher: DCI acts more in that layer
    region        [h w] or [b h w] in 0..1, where in the picture it acts. Higher: more there; None: everywhere
    one_auxiliary   one auxiliary picture serves the whole batch (`separate` alone); each picture's auxiliary then saw
                    the first one's noise
    auxiliary_seed  of the auxiliary noise of every picture; None: derived from each picture's own
    fade            a control: share of the window, at its end, over which DCI fades out; 0 closes it at once
    """

    window: float = 0.3  # released code's default
    guidance: Guidance = "shared"
    gain: Literal["reference", "scaled", "shifted"] = "scaled"
    layers: LayerMask = LayerMask()
    region: Tensor | None = field(default=None, compare=False)
    one_auxiliary: bool = False
    auxiliary_seed: int | None = None
    fade: float = field(default=0.0, metadata=LATER)

    def is_off(self, family: Family) -> bool:
        """Whether nothing is to be installed: a closed window, or no layer with a share."""
        return self.window == 0 or not any(self.layers.shares(family.reference_tokens).values())

    def dbim(self, family: Family) -> DbimSettings:
        """What the attention rule needs for this family; raises BadSettings and BadLayers."""
        check_choice("guidance", self.guidance, GUIDANCE)
        check_choice("gain", self.gain, GAINS)
        check_choice("form", self.form, FORMS)
        if not 0 <= self.fade <= 1:
            raise BadSettings(f"the fade is {self.fade}", "a share of the window in 0..1 is expected", "use 0 or 0.5")
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
        form = "shift" if self.gain == "shifted" else self.form
        return DbimSettings(
            **{**self.balance(), "form": form},
            shares=self.layers.shares(family.reference_tokens),
            reference_tokens=None if self.gain == "reference" else family.reference_tokens,
            region=self.region,
        )

    def share_at(self, family: Family, sigma: float) -> float:
        """How far DCI acts at this noise of an open window, in 0..1: 1 but where it fades out."""
        if self.fade == 0:
            return 1.0
        left = self.window - family.schedule.passed(sigma)
        return min(max(left / (self.fade * self.window), 0.0), 1.0)

    def auxiliary_seeds(self, seeds: Sequence[int]) -> list[int]:
        """Seeds of the auxiliary noise, one for each picture's."""
        if self.auxiliary_seed is not None:
            return [self.auxiliary_seed] * len(seeds)
        return [auxiliary_seed(seeds[0] if self.one_auxiliary else seed) for seed in seeds]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises BadSettings where the value is not among the choices."""
    if value not in choices:
        raise BadSettings(f"{name} is {value!r}", f"one of {', '.join(choices)} is expected", "choose one")


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
