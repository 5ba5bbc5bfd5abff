"""What a training step takes on a card, and how its pictures are split into passes so that they fit there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..concept.deltas import Widths
from ..errors import BadSettings
from .estimate import COPIES_TRAINING, FLOAT_BYTES
from .settings import IcoSettings

AS_SET = "as set"
CARDS = {"8 GB": 8, "12 GB": 12, "16 GB": 16, "24 GB": 24}  # names and GiB
CHOICES = (AS_SET, *CARDS)
GIB = 2**30
USABLE = 7 / 8  # of a card: the rest is for its driver and whatever draws the screen


@dataclass(frozen=True)
class Cost:
    """What the passes of a family keep, in fp16, with their blocks computed again: `tests/host/inside/memory_count.py`
    counts it.

    pixel  bytes of a row for each of its pixels: block inputs, and twice what is in the largest block
    text   bytes of the text encoders' pass
    """

    pixel: int
    text: int


COSTS = {"sd15": Cost(1170, 80_000_000), "sd21": Cost(1170, 136_000_000), "sdxl": Cost(834, 220_000_000)}


@dataclass(frozen=True)
class Weights:
    """Bytes of the networks as they are loaded."""

    unet: int
    text: int


@dataclass(frozen=True)
class Split:
    """How a step is computed on a card.

    batch, accumulation  pictures in a pass and passes of an update; their product stays as it was asked for
    text_on_cpu          the text encoders have no room on the card
    total                bytes that the card holds, by count
    """

    batch: int
    accumulation: int
    text_on_cpu: bool
    total: int


def cost_of(family: str) -> Cost | None:
    """The family's cost; None where nobody has counted it, as for the small worlds."""
    return next((cost for name, cost in COSTS.items() if family.startswith(name)), None)


def split_for(
    card: str, settings: IcoSettings, family: str, widths: Widths, weights: Weights, size_px: int
) -> Split | None:
    """The largest passes that fit on a card, the text encoders beside them where they fit; None: nothing to choose.

    card     one of CHOICES
    widths   of every learned layer
    size_px  side of the pictures

    Raises BadSettings where one picture in a pass does not fit.
    """
    cost = cost_of(family)
    if card == AS_SET or cost is None:
        return None
    wide = 2 if settings.precision == "fp32" else 1
    row = cost.pixel * size_px**2 * wide * (1 if settings.prior == "none" else 2)
    fixed = weights.unet + learned_bytes(widths, settings.rank)
    text = weights.text + cost.text
    room = int(CARDS[card] * GIB * USABLE)
    pictures = settings.batch * settings.accumulation
    batches = [batch for batch in range(settings.batch, 0, -1) if pictures % batch == 0]
    for text_on_cpu in (False, True):
        beside = 0 if text_on_cpu else text
        for batch in batches:
            total = fixed + beside + batch * row
            if total <= room:
                return Split(batch, pictures // batch, text_on_cpu, total)
    raise BadSettings(
        f"one picture of {size_px} px in a pass needs about {(fixed + row) / GIB:.1f} GiB, text encoders left out",
        f"at most {room / GIB:.1f} GiB of a card of {card} are expected",
        "lower size_px or rank, set prior to none, or choose a larger card",
    )


def learned_bytes(widths: Widths, rank: int | None) -> int:
    """Key and value changes with gradient and optimiser."""
    numbers = 2 * sum(
        inner * context if rank is None else rank * (inner + context) for inner, context in widths.values()
    )
    return numbers * FLOAT_BYTES * COPIES_TRAINING


def split_settings(settings: IcoSettings, split: Split) -> IcoSettings:
    """The settings of a split training: another number of passes, the same pictures in an update."""
    return replace(settings, batch=split.batch, accumulation=split.accumulation)
