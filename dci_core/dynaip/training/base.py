"""What an adapter is trained on: a frozen flow model with its picture codec, text encoder and vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from ...attention.joint import JointCall, JointRule
from ...model import Text


class FlowBase(Protocol):
    """A rectified-flow MM-DiT, x = (1 - t) x0 + t noise, and all that turns pictures and words into its inputs."""

    @property
    def family(self) -> str:
        """Name of its row in the family table."""

    @property
    def size(self) -> int:
        """Pixels a side of the pictures it is trained with here."""

    @property
    def cfg(self) -> float:
        """Guidance of the validation sheet; 1 for a base that is distilled for guidance."""

    @property
    def vision(self) -> tuple[int, int]:
        """(width of the hidden states, number of layers) of the vision tower."""

    def fingerprint(self) -> str:
        """Changes when the base's weights do."""

    def latents(self, pictures: Tensor) -> Tensor:
        """[b c h w] of pictures [b 3 size size] in 0..1."""

    def pictures(self, latents: Tensor) -> Tensor:
        """Pictures [b 3 size size] in 0..1 of latents."""

    def encode(self, prompts: Sequence[str]) -> Text:
        """One row of text for each prompt; "" is a prompt too."""

    def states(self, pictures: Tensor) -> Sequence[Tensor]:
        """Hidden states [b t c] of the vision tower for references [b 3 h w] in 0..1; state 0 is the embedding."""

    def times(self, uniform: Tensor) -> Tensor:
        """The times t in 0..1 (1: noise) that training draws, from uniform numbers [b]."""

    def schedule(self, num_steps: int) -> Tensor:
        """[num_steps + 1] falling times from 1 to 0, to sample with."""

    def velocity(self, x: Tensor, t: Tensor, text: Text, rule: JointRule | None = None) -> Tensor:
        """noise - x0 at x [b c h w] and t [b]; the rule acts in every block."""


def read_by(rule: JointRule, reads: Tensor) -> JointRule:
    """The rule for a batch of which only rows with reads 1 read the reference; reads [b], on the CPU."""

    def some(call: JointCall) -> Tensor | None:
        return rule(replace(call, reads=reads))

    return some
