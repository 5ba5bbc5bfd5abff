"""A flow model that fits in a test: a frozen linear velocity over pooled pixels, with the rule read in two blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dci_core.attention.joint import BlockId, JointCall, JointRule
from dci_core.attention.rows import TokenRows
from dci_core.dynaip.adapter import Adapter, AdapterParams
from dci_core.dynaip.training.pairs import Pair
from dci_core.dynaip.training.settings import AdapterSettings
from dci_core.dynaip.training.state import AdapterTraining, new_adapter
from dci_core.families.mmdit import find_mmdit
from dci_core.ico.state import generator_for
from dci_core.model import Text

SIZE, GRID, TEXTS = 16, 4, 3
FAMILY, BLOCKS = find_mmdit("tiny_flow"), (BlockId("double", 0), BlockId("single", 0))
LEVELS = (1, 2)
QUICK = AdapterSettings(steps=6, batch=4, learning_rate=1e-2, drop_image=0.2)


def random(*shape: int, name: str) -> Tensor:
    return torch.randn(shape, generator=generator_for(5, name)) * shape[-1] ** -0.5


@dataclass
class ToyFlow:
    """Latents are 3 channels on a 4 x 4 grid; every image row is a latent pixel."""

    family: str = FAMILY.name
    size: int = SIZE
    cfg: float = 2.0
    vision: tuple[int, int] = (6, 2)
    weights: dict[str, Tensor] = field(
        default_factory=lambda: {
            name: random(*shape, name=name)
            for name, shape in {
                "in": (FAMILY.width, 3), "out": (3, FAMILY.width), "words": (50, FAMILY.width),
                "double.0": (FAMILY.width, FAMILY.width), "single.0": (FAMILY.width, FAMILY.width),
            }.items()
        }
    )  # fmt: skip
    reads: list[Tensor] = field(default_factory=list)

    def fingerprint(self) -> str:
        return f"{float(sum(x.double().sum() for x in self.weights.values())):.6f}"

    def latents(self, pictures: Tensor) -> Tensor:
        return avg_pool2d(pictures, SIZE // GRID) * 2 - 1

    def pictures(self, latents: Tensor) -> Tensor:
        return interpolate(latents, scale_factor=SIZE // GRID) / 2 + 0.5

    def encode(self, prompts: Sequence[str]) -> Text:
        ids = [[crc32(f"{prompt} {i}".encode()) % 50 if prompt else 0 for i in range(TEXTS)] for prompt in prompts]
        return Text(self.weights["words"][torch.tensor(ids)])

    def states(self, pictures: Tensor) -> tuple[Tensor, ...]:
        tokens = rearrange(avg_pool2d(pictures, 8), "b c h w -> b (h w) c")
        return tuple(torch.cat([tokens * (i + 1), tokens**2], dim=-1) for i in range(3))

    def times(self, uniform: Tensor) -> Tensor:
        return uniform

    def schedule(self, num_steps: int) -> Tensor:
        return torch.linspace(1, 0, num_steps + 1)

    def velocity(self, x: Tensor, t: Tensor, text: Text, rule: JointRule | None = None) -> Tensor:
        rows = TokenRows.text_first(TEXTS, GRID * GRID)
        image = rearrange(x, "b c h w -> b (h w) c") @ self.weights["in"].T + t[:, None, None]
        joined = torch.cat([text.hidden, image], dim=1)
        for block in BLOCKS:
            q = rearrange(joined @ self.weights[str(block)].T, "b n (heads d) -> b heads n d", heads=FAMILY.heads)
            call = JointCall(q, rows, block, (GRID, GRID), torch.ones(len(x)))
            delta = None if rule is None else rule(call)
            joined = joined + joined.mean(dim=1, keepdim=True) + (0 if delta is None else delta)
        return rearrange(joined[:, rows.image] @ self.weights["out"].T, "b (h w) c -> b c h w", h=GRID)


def toy_adapter(seed: int = 0) -> Adapter:
    small = {"token_width": 8, "expert_depth": 1, "expert_width": 8, "expert_heads": 2, "router_width": 4}
    params = AdapterParams(FAMILY.name, 6, 2, levels=LEVELS, tokens=2, blocks=BLOCKS, **small)
    return new_adapter(params, seed)


def steady(training: AdapterTraining) -> AdapterTraining:
    """The training with an AdamW that does not blow rounding up in directions without a gradient: for comparisons."""
    for group in training.optimiser.param_groups:
        group["eps"] = 1e-4
    return training


@dataclass(frozen=True)
class ToyPairs:
    """Pairs of noise around the subject's own colour."""

    name: str = "toy"

    def fingerprint(self) -> str:
        return self.name

    def pair(self, place: int, seed: int, cut_out: float) -> Pair:
        g = generator_for(seed, "pair", place)
        colour = torch.randint(0, 200, (1, 1, 3), generator=g)
        views = [(colour + torch.randint(0, 55, (SIZE, SIZE, 3), generator=g)).byte().numpy() for _ in range(2)]
        return Pair(views[0], f"picture {place % 7}", views[1])
