"""Settings of adapter training, and what cannot work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import BadSettings
from ...ico.settings import Schedule, rate_at

CHOICES: Mapping[str, tuple[str, ...]] = {"schedule": ("constant", "cosine")}
AT_LEAST = {"steps": 1, "batch": 1, "accumulation": 1, "warmup_steps": 0, "weight_decay": 0}
SHARES = ("drop_image", "drop_text", "drop_both", "cut_out", "same_picture")


@dataclass(frozen=True)
class AdapterSettings:
    """How an adapter is trained.

    The published recipe is unknown; these are IP-Adapter's starting values (Source: dynaip.md section 6).

    steps          updates of the weights
    batch          pairs in one pass, over all processes together
    accumulation   passes averaged into one update
    learning_rate  of AdamW, after warmup_steps of linear rise
    schedule       "constant" or "cosine" (down to zero)
    clip_norm      longest allowed gradient, or None
    ema            share of the moving average that each update keeps; the file gets the average
    drop_image     share of rows that do not read the reference
    drop_text      share of rows with an empty caption
    drop_both      share of rows with neither; the three never overlap
    cut_out        share of references shown on white, where a mask is known
    same_picture   share of rows whose reference is the very picture that they draw: it shows every detail at its
                   place, and teaches to copy them
    noise_shift    of the base's times towards noise, t' = s t / (1 + (s - 1) t); above 1 there are more of the times
                   at which a reference decides the most, 1 leaves them as the base had them
    bf16           passes in bfloat16 where torch allows; what is learned stays float32
    """

    steps: int = 10_000
    batch: int = 8
    accumulation: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = 1.0
    ema: float = 0.999
    drop_image: float = 0.05
    drop_text: float = 0.05
    drop_both: float = 0.05
    cut_out: float = 0.5
    same_picture: float = 0.0
    noise_shift: float = 1.0
    seed: int = 23
    bf16: bool = False

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        return self.learning_rate

    def rate_at(self, step: int) -> float:
        """Learning rate of the update that follows `step` finished ones."""
        return rate_at(step, self)

    def places(self, step: int, index: int) -> range:
        """Numbers of the rows that pass `index` of the update after `step` finished ones draws; none comes twice."""
        first = (step * self.accumulation + index) * self.batch
        return range(first, first + self.batch)


def check_settings(settings: AdapterSettings, processes: int = 1) -> None:
    """Nothing, or BadSettings for the first number or choice that cannot work."""
    for name, least in AT_LEAST.items():
        _check(settings, name, getattr(settings, name) >= least, f"{least} or more was expected")
    for name in ("learning_rate", "clip_norm", "noise_shift"):
        value = getattr(settings, name)
        _check(settings, name, value is None or value > 0, "a number above 0 was expected")
    for name in SHARES:
        _check(settings, name, 0 <= getattr(settings, name) <= 1, "a number in 0..1 was expected")
    for name, choices in CHOICES.items():
        _check(settings, name, getattr(settings, name) in choices, f"one of {', '.join(choices)} was expected")
    _check(settings, "ema", 0 <= settings.ema < 1, "a number in 0..1, below 1, was expected")
    dropped = settings.drop_image + settings.drop_text + settings.drop_both
    if dropped > 1:
        raise BadSettings(f"the three drops add up to {dropped:g}", "1 or less was expected", "lower one of them")
    if settings.batch % processes:
        raise BadSettings(
            f"the batch is {settings.batch} on {processes} processes",
            "as many rows for each process were expected",
            f"use a multiple of {processes}",
        )


def _check(settings: AdapterSettings, name: str, is_right: bool, expected: str) -> None:
    value = getattr(settings, name)
    if not is_right or (isinstance(value, float) and not math.isfinite(value)):
        raise BadSettings(f"{name.replace('_', ' ')} is {value}", expected, f"change {name}")
