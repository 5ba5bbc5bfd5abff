"""What a training step takes on a card, and how its pictures are split into passes so that they fit there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..concept.deltas import Widths
from ..errors import BadSettings
from ..families.table import find_family
from .estimate import COPIES_TRAINING, FLOAT_BYTES, HALF_BYTES
from .settings import IcoSettings

AS_SET = "as set"
CARDS = {"8 GB": 8, "12 GB": 12, "16 GB": 16, "24 GB": 24, "32 GB": 32}  # names and GiB
CHOICES = (AS_SET, *CARDS)
GIB = 2**30
USABLE = 7 / 8  # of a card: the rest is for its driver and whatever draws the screen


@dataclass(frozen=True)
class Cost:
    """What the passes of a family keep, in half precision, with their blocks computed again: on U-Nets
    `tests/host/inside/memory_count.py` counts it, on transformers `stream_count.py` beside it, with texts of 512 rows
    (154 on SD 3).

    pixel     bytes of a row for each of its pixels: block inputs, and what is in the largest block with its gradients
    text      bytes of the text encoders' pass that do not grow with its rows: weights are cast to fp32 there
    text_row  bytes of that pass for each text
    row       bytes of a row whatever its size: its text
    casts     numbers of weights that are cast and kept at once where they are stored in another precision
    """

    pixel: int
    text: int
    text_row: int
    row: int = 0
    casts: int = 0


COSTS = {
    "sd15": Cost(1010, 31_000_000, 9_900_000, casts=50_000_000),
    "sd21": Cost(834, 55_000_000, 14_700_000, casts=50_000_000),
    "sdxl": Cost(694, 88_000_000, 24_900_000, casts=50_000_000),
    "anima": Cost(1089, 66_000_000, 179_000_000, 269_000_000, 160_000_000),
    "flux": Cost(2084, 845_000_000, 560_000_000, 327_000_000, 240_000_000),
    "flux2_klein_4b": Cost(1557, 409_000_000, 490_000_000, 257_000_000, 270_000_000),
    "flux2_klein_9b": Cost(2295, 778_000_000, 660_000_000, 372_000_000, 488_000_000),
    "z_image": Cost(2387, 409_000_000, 480_000_000, 544_000_000, 542_000_000),
    "qwen_image": Cost(2147, 938_000_000, 580_000_000, 328_000_000, 240_000_000),
    "krea2": Cost(3440, 412_000_000, 540_000_000, 2_140_000_000, 836_000_000),
    "sd3_medium": Cost(545, 790_000_000, 84_000_000, 27_000_000, 64_000_000),
    "sd35_medium": Cost(885, 790_000_000, 84_000_000, 34_000_000, 73_000_000),
    "sd35_large": Cost(1285, 790_000_000, 84_000_000, 63_000_000, 154_000_000),
}


@dataclass(frozen=True)
class Weights:
    """Bytes of the networks as they are loaded.

    is_cast  whether the model's are stored in another precision than it computes in
    """

    unet: int
    text: int
    is_cast: bool = False


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
    return COSTS.get(family.removesuffix("_v").removesuffix("_base"))


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
    room = int(CARDS[card] * GIB * USABLE)
    pictures = settings.batch * settings.accumulation
    batches = [batch for batch in range(settings.batch, 0, -1) if pictures % batch == 0]
    for text_on_cpu in (False, True):
        for batch in batches:
            total = step_bytes(cost, replace(settings, batch=batch), widths, weights, size_px, text_on_cpu)
            if total <= room:
                return Split(batch, pictures // batch, text_on_cpu, total)
    smaller = "" if weights.is_cast or find_family(family).layout == "unet" else "load the model with fp8 weights, "
    raise BadSettings(
        f"one picture of {size_px} px in a pass needs about {total / GIB:.1f} GiB, text encoders left out",
        f"at most {room / GIB:.1f} GiB of a card of {card} are expected",
        f"{smaller}lower size_px or rank, set prior to none, or choose a larger card",
    )


def step_bytes(
    cost: Cost, settings: IcoSettings, widths: Widths, weights: Weights, size_px: int, text_on_cpu: bool
) -> int:
    """What the card holds in a step whose blocks are computed again: weights, what is learned, rows, texts."""
    rows = settings.batch * (1 if settings.prior == "none" else 2)
    wide = FLOAT_BYTES // HALF_BYTES if settings.precision == "fp32" else 1
    casts = cost.casts * HALF_BYTES * wide if weights.is_cast else 0
    is_beside = weights.text > 0 and not text_on_cpu
    text = weights.text + cost.text + settings.batch * cost.text_row if is_beside else 0
    row = (cost.row + cost.pixel * size_px**2) * wide
    return weights.unet + casts + learned_bytes(widths, settings.rank) + rows * row + text


def learned_bytes(widths: Widths, rank: int | None) -> int:
    """Key and value changes with gradient and optimiser."""
    numbers = 2 * sum(
        inner * context if rank is None else rank * (inner + context) for inner, context in widths.values()
    )
    return numbers * FLOAT_BYTES * COPIES_TRAINING


def split_settings(settings: IcoSettings, split: Split) -> IcoSettings:
    """The settings of a split training: another number of passes, the same pictures in an update."""
    return replace(settings, batch=split.batch, accumulation=split.accumulation)
