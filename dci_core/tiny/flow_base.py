"""The tiny flow world as a base that adapters are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attention.joint import JointRule
from ..fingerprint import short_hash, tensor_bytes
from ..model import Text
from ..noise.schedule import logit_normal
from .flow.model import FlowWorld
from .flow.sampling import FlowSettings, flow_times
from .training.mmdit import SHIFT
from .world.scene import PICTURE_SIZE


@dataclass(frozen=True)
class TinyFlowBase:
    """A `FlowBase`; `world` must be frozen and on one device."""

    world: FlowWorld
    size: int = PICTURE_SIZE
    cfg: float = FlowSettings.cfg

    @property
    def family(self) -> str:
        """Name of its row in the family table."""
        return self.world.model.family

    @property
    def vision(self) -> tuple[int, int]:
        """(width, layers) of the vision tower."""
        return self.world.vision.params.width, self.world.vision.params.layers

    def fingerprint(self) -> str:
        """Of the transformer's, the vision tower's, the text encoder's and the codec's weights."""
        parts = (self.world.model.mmdit, self.world.vision, self.world.model.text, self.world.codec)
        return short_hash(tensor_bytes(x, torch.float32) for part in parts for x in part.state_dict().values())

    def latents(self, pictures: Tensor) -> Tensor:
        """[b c h w] of pictures [b 3 size size] in 0..1."""
        return self.world.codec.encode(pictures)

    def pictures(self, latents: Tensor) -> Tensor:
        """Pictures [b 3 size size] in 0..1 of latents."""
        return self.world.codec.decode(latents)

    def encode(self, prompts: Sequence[str]) -> Text:
        """One row of text for each prompt."""
        return self.world.model.encode(prompts)

    def states(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Hidden states of the vision tower for references [b 3 h w] in 0..1."""
        return self.world.vision.states(pictures)

    def times(self, uniform: Tensor) -> Tensor:
        """As the base itself was trained: the sigmoid of a normal number, shifted towards noise."""
        return logit_normal(uniform, SHIFT)

    def schedule(self, num_steps: int) -> Tensor:
        """Falling times from 1 to 0, as the base is sampled."""
        return torch.tensor(flow_times(replace(FlowSettings(), num_steps=num_steps)))

    def velocity(self, x: Tensor, t: Tensor, text: Text, rule: JointRule | None = None) -> Tensor:
        """noise - x0 at x [b c h w] and t [b]."""
        return self.world.model.velocity(x, t, text, rule)


def on_device(world: FlowWorld, device: torch.device) -> FlowWorld:
    """The world, frozen and moved there."""
    for part in (world.model.text, world.model.mmdit, world.vision, world.codec):
        part.to(device).eval().requires_grad_(False)
    return world
