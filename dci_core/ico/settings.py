"""Settings of ICO training, and the learning rate that follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from ..errors import BadSettings
from ..noise.schedule import TRAINING_STEPS
from ..text.captions import read_caption
from .contexts import ContextWords, Positions
from .precision import DTYPES, Precision

Prior = Literal["none", "teacher", "pictures"]
Schedule = Literal["constant", "cosine"]
CHOICES: Mapping[str, tuple[str, ...]] = {
    "positions": ("reference", "corrected"),
    "prior": ("none", "teacher", "pictures"),
    "schedule": ("constant", "cosine"),
    "precision": tuple(DTYPES),
}
MOST_RATE = 1e3  # one step of AdamW moves every number by the rate; far beyond, its square leaves fp32
PRIVATE = ("templates", "prefix", "suffix")  # words of captions: in the resume file only, never in a concept


@dataclass(frozen=True)
class IcoSettings:
    """How a concept is learned; defaults follow the released code on SD 1.x with one GPU.

    steps              updates of the weights. More: closer to the pictures, and deafer to the prompt
    batch              reference pictures in one pass; the prior adds as many rows
    accumulation       passes averaged into one update
    learning_rate      per picture; key/value weights and modifier tokens train at `rate`. Higher: as more steps, until
                       it diverges
    scale_rate         multiply learning_rate by batch and accumulation, as the released code does
    context_factor     contexts train this many times faster. Higher: more of each picture stays private to it
    weight_decay       pulls the learned changes, not the model's weights, to zero. Higher: a weaker concept
    schedule           "constant" or "cosine" (down to zero), after warmup_steps of linear rise
    clip_norm          longest allowed gradient, or None
    rank               factors of each key/value change, or None for full rank. Higher: more can be learned, at more
                       memory and a larger file
    rank_rate          factors train this many times faster than a full change would
    modifier_tokens    learned tokens before the noun. More: more of the look sits in the words
    contexts           False: fixed templates instead (Custom Diffusion's training)
    prefix, suffix     words the contexts start from, or a number of random vectors
    positions          "reference" keeps the released code's positions of the learned rows, "corrected" their slots'
    templates          drawn from for pictures without a caption when contexts are off
    prior              "teacher": the untrained model's answer to the noun alone; "pictures": class pictures; "none"
    prior_weight       of the prior beside the pictures. Higher: other things of the noun's class stay as they were
    flip_probability   chance of the mirrored picture. 0 for things that have a left and a right, as lettering has
    timestep_range     first and last training timestep drawn, uniformly, both included
    precision          what the passes of the model are computed in: "fp32", "bf16", "fp16"; what is learned stays fp32
    """

    steps: int = 900
    batch: int = 2
    accumulation: int = 1
    learning_rate: float = 1e-5
    scale_rate: bool = True
    context_factor: float = 10.0
    weight_decay: float = 0.01
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    rank: int | None = None
    modifier_tokens: int = 3
    contexts: bool = True
    prefix: str | int = "A"
    suffix: str | int = "."
    positions: Positions = "corrected"
    templates: tuple[str, ...] = ("photo of a {concept}",)
    prior: Prior = "teacher"
    prior_weight: float = 1.0
    flip_probability: float = 0.5
    timestep_range: tuple[int, int] = (0, TRAINING_STEPS - 1)
    seed: int = 23
    precision: Precision = "fp32"
    rank_rate: float = 1.0

    @property
    def rate(self) -> float:
        """Peak learning rate of key/value weights and modifier tokens."""
        return self.learning_rate * (self.batch * self.accumulation if self.scale_rate else 1)

    @property
    def words(self) -> ContextWords:
        """What the contexts start from; nothing when they are off."""
        prefix, suffix = (self.prefix, self.suffix) if self.contexts else (0, 0)
        return ContextWords(prefix, suffix, self.positions)

    def public(self) -> dict[str, object]:
        """The settings that may stand in a concept file, as JSON has them: everything but words."""
        plain = {name: value for name, value in asdict(self).items() if name not in PRIVATE}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


class Paced(Protocol):
    """Settings that a learning rate follows from."""

    @property
    def steps(self) -> int:
        """Updates of the weights."""

    @property
    def warmup_steps(self) -> int:
        """Updates of linear rise."""

    @property
    def schedule(self) -> Schedule:
        """What comes after them."""

    @property
    def rate(self) -> float:
        """Peak learning rate."""


def rate_at(step: int, settings: Paced) -> float:
    """Learning rate of the update that follows `step` finished ones."""
    if step < settings.warmup_steps:
        return settings.rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.rate
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def check_settings(settings: IcoSettings) -> None:
    """Nothing, or BadSettings for the first number or choice that cannot work."""
    for name in ("steps", "batch", "accumulation", "modifier_tokens"):
        _at_least(settings, name, 1)
    for name in ("warmup_steps", "weight_decay", "prior_weight"):
        _at_least(settings, name, 0)
    for name in ("learning_rate", "context_factor", "rank_rate"):
        _above_zero(settings, name)
    for name in ("rank", "clip_norm"):
        if getattr(settings, name) is not None:
            _above_zero(settings, name)
    for name, choices in CHOICES.items():
        if getattr(settings, name) not in choices:
            raise _bad(settings, name, f"one of {', '.join(choices)} was expected")
    for name in ("prefix", "suffix"):
        if isinstance(getattr(settings, name), int):
            _at_least(settings, name, 0)
    _check_rates(settings)
    _check_ranges(settings)


def _check_rates(settings: IcoSettings) -> None:
    fastest = settings.rate * max(1.0, settings.context_factor, settings.rank_rate)
    if not fastest <= MOST_RATE:
        raise BadSettings(
            f"the learning rate comes to {fastest:g} (learning rate {settings.learning_rate:g}, batch, context factor)",
            f"at most {MOST_RATE:g} is expected",
            "use 0.00001 for SD, 0.00025 for the tiny world",
        )


def _check_ranges(settings: IcoSettings) -> None:
    if not 0 <= settings.flip_probability <= 1:
        raise _bad(settings, "flip_probability", "a number in 0..1 was expected")
    first, last = settings.timestep_range
    if not 0 <= first <= last < TRAINING_STEPS:
        raise _bad(settings, "timestep_range", f"first <= last inside 0..{TRAINING_STEPS - 1} was expected")
    if not settings.contexts and not settings.templates:
        raise _bad(settings, "templates", "at least one template was expected with contexts off")
    for template in settings.templates:
        read_caption(template)


def _at_least(settings: IcoSettings, name: str, least: int) -> None:
    value = getattr(settings, name)
    if not math.isfinite(value) or value < least:
        raise _bad(settings, name, f"{least} or more was expected")


def _above_zero(settings: IcoSettings, name: str) -> None:
    value = getattr(settings, name)
    if not math.isfinite(value) or value <= 0:
        raise _bad(settings, name, "a number above 0 was expected")


def _bad(settings: IcoSettings, name: str, expected: str) -> BadSettings:
    return BadSettings(f"{name.replace('_', ' ')} is {getattr(settings, name)}", expected, f"change {name}")
