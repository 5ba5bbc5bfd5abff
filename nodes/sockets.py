"""Our socket types and what travels through them."""

from __future__ import annotations

from dataclasses import dataclass, field

from comfy_api.latest import io
from torch import Tensor

from ..dci_core.layers import LayerId, LayerMask
from ..dci_core.tokens import PairTokens

ConceptSocket = io.Custom("ICO_CONCEPT")
PlanSocket = io.Custom("DCI_PLAN")
LayersSocket = io.Custom("DBIM_LAYERS")
RecordSocket = io.Custom("DBIM_RECORD")


@dataclass(frozen=True)
class DciPlan:
    """What the dual branch needs of a prompt pair, apart from the concept's own conditioning.

    mark        ties the plan to its conditioning
    hidden      [1 t c], the auxiliary prompt's text
    pooled      [1 p] or None
    tokens      where the concept and the auxiliary noun stand
    texts       the two prompts as written
    """

    mark: str
    hidden: Tensor
    pooled: Tensor | None
    tokens: PairTokens
    texts: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class DbimLayers:
    """Which layers integrate, and where: the layer text and an optional region [h w] or [b h w] in 0..1."""

    mask: LayerMask = field(default_factory=LayerMask)
    region: Tensor | None = field(default=None, compare=False)


@dataclass
class DbimRecord:
    """What the last run did; filled while sampling.

    weights    (sigma, layer) -> share of the concept branch, [b h w], mean over heads
    auxiliary  the auxiliary branch's last latent [b c h w], or None
    """

    weights: dict[tuple[float, LayerId], Tensor] = field(default_factory=dict)
    auxiliary: Tensor | None = None
    notes: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Forgets the run before."""
        self.weights.clear()
        self.notes.clear()
        self.auxiliary = None

    def see(self, sigma: float, layer: LayerId, weights: Tensor, grid: tuple[int, int]) -> None:
        """Keeps one layer's weights [b heads n] at one noise level."""
        self.weights[sigma, layer] = weights.detach().mean(dim=1).unflatten(1, grid).float()
