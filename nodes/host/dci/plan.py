"""What the patched model is told, and what it writes down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ....dci_core.attention.layers import LayerId, LayerMask
from ....dci_core.concept.learned import Concept
from ....dci_core.concept.together import Together
from ....dci_core.dci.branches import DciSettings
from ....dci_core.dci.dbim import DbimSettings
from ....dci_core.dci.row_plan import RowPlan, plan_rows
from ....dci_core.families.weight_names import JOINT_STAGES
from ....dci_core.text.tokens import PairTokens
from ..page.once import Once

log = logging.getLogger(__name__)
KEY = "ico_dci"  # of our wrappers
HINTS = ("both", "concept", "auxiliary")  # which branch ControlNet reaches
MARK = "ico_dci_plan"  # option of a conditioning that belongs to a plan
TEXT_MARKS = ("t5xxl_ids", "t5xxl_weights", "attention_mask")  # what else of a text a model may read, prompt by prompt


@dataclass(frozen=True, eq=False)
class DciPlan:
    """What the dual branch needs of a prompt pair, apart from the concept's own conditioning.

    mark     ties the plan to its conditioning
    hidden   [1 t c], the auxiliary prompt's text
    pooled   [1 p] or None
    tokens   where the concept and the auxiliary noun stand
    texts    the two prompts as written
    own      the concept's own text as the pair made it, [1 t c] each; more than one where the CLIP is scheduled
    marks    what else the model reads of the auxiliary prompt: TEXT_MARKS that its text encoder gives
    concepts, regions  of several in one prompt, in the order of the tokens' parts; empty: the plan is of one concept
    """

    mark: str
    hidden: Tensor
    pooled: Tensor | None
    tokens: PairTokens
    texts: tuple[str, str] = ("", "")
    own: tuple[Tensor, ...] = ()
    marks: Mapping[str, Tensor] = field(default_factory=dict)
    concepts: tuple[Concept, ...] = ()
    regions: tuple[Tensor | None, ...] = ()


@dataclass(frozen=True, eq=False)
class DbimLayers:
    """Which layers integrate, and where: the layer text and an optional region [h w] or [b h w] in 0..1."""

    mask: LayerMask = field(default_factory=LayerMask)
    region: Tensor | None = None


@dataclass(frozen=True, eq=False)
class DciPatch:
    """Everything that Apply DCI puts on a model.

    settings  the user's
    dbim      the same for the model's family
    hints     which branch ControlNet's hints reach: both, concept or auxiliary
    replays   whether the auxiliary branch's work is kept for later runs; never in `shared` guidance or `together`
    together  keeps several concepts apart; None: there is one
    layers    all that read text, in which several concepts are kept apart
    """

    plan: DciPlan
    settings: DciSettings
    dbim: DbimSettings
    hints: str = "both"
    replays: bool = False
    together: Together | None = None
    layers: tuple[LayerId, ...] = ()

    @property
    def is_joint(self) -> bool:
        """Whether the text is read in joint attentions."""
        return any(layer.stage in JOINT_STAGES for layer in self.dbim.shares)

    def rows(self, tags: Sequence[tuple[int, int]], num_chunks: int, acts: bool) -> RowPlan:
        """Which rows of a batch with these tags run."""
        how = self.settings
        return plan_rows(tags, acts=acts, guidance=how.guidance, num_chunks=num_chunks, one_auxiliary=how.one_auxiliary)


@dataclass(eq=False)
class DbimRecord:
    """What the last run of a patched model did; filled while it samples.

    weights         (sigma, layer) -> share of the concept branch [b h w], mean over heads
    auxiliary       the auxiliary branch's last estimate of its own clean latent [b c h w], or None
    final_auxiliary its latent where the window closed, [b c h w], or None
    current_call    (layer, share [b h w]) of the model call that is running
    steps           of the run; acted: those at which the window was open
    rows            that the model computed; plain_rows: that it would have computed without DCI
    warnings        what the user should know of this run
    size            (height, width) of the run's latents
    guests          who else acted in it; with anyone, the auxiliary branch ran in calls of its own
    on_end          called when a run has ended
    once            what the log was told
    """

    weights: dict[tuple[float, LayerId], Tensor] = field(default_factory=dict)
    auxiliary: Tensor | None = None
    final_auxiliary: Tensor | None = None
    current_call: list[tuple[LayerId, Tensor]] = field(default_factory=list)
    steps: int = 0
    acted: int = 0
    rows: int = 0
    plain_rows: int = 0
    warnings: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    guests: tuple[str, ...] = ()
    on_end: Callable[[DbimRecord], None] | None = None
    once: Once = field(default_factory=Once)

    def clear(self) -> None:
        """Forgets the run before."""
        self.weights.clear()
        self.current_call.clear()
        self.warnings.clear()
        self.auxiliary = self.final_auxiliary = None
        self.steps = self.acted = self.rows = self.plain_rows = 0
        self.guests = ()

    def warn(self, sentence: str) -> None:
        """Keeps a sentence for the node, and says it in the log: once, however often the node samples."""
        self.warnings.append(sentence)
        if self.once.is_new(sentence):
            log.warning(sentence)

    def end(self) -> None:
        """Tells whoever waits for the run that it has ended."""
        if self.on_end is not None:
            self.on_end(self)

    def see(self, layer: LayerId, weights: Tensor, grid: tuple[int, int]) -> None:
        """Keeps a layer's weights [b heads n] until their model call ends; knows no noise level, since a compiled model
        would be compiled anew for each.
        """
        self.current_call.append((layer, weights.detach().mean(dim=1).unflatten(1, grid)))

    def file(self, sigma: float) -> None:
        """Puts away what the model call at this noise level showed."""
        self.weights.update(((sigma, layer), planes) for layer, planes in self.current_call)
        self.current_call.clear()

    def settle(self, latent_out: Callable[[Tensor], Tensor]) -> None:
        """Moves what was seen off the accelerator, the auxiliary's estimate in the scale of the host's latents."""
        self.weights = {key: value.float().cpu() for key, value in self.weights.items()}
        if self.auxiliary is not None:
            self.auxiliary = latent_out(self.auxiliary.float()).cpu()
