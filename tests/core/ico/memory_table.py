"""A training's memory as `docs/performance.md` and the help page show it: `python -m tests.core.ico.memory_table`."""

from __future__ import annotations

from dataclasses import replace

from dci_core.errors import BadSettings
from dci_core.ico.memory import CARDS, GIB, Split, Weights, cost_of, learned_bytes, split_for, step_bytes
from dci_core.ico.rank import AUTO, choose_rank
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import family_widths

from .base_sizes import BYTES, STREAMS

GIGA = 1e9


TITLES = {
    "sd15": "SD 1.5", "sd21": "SD 2.1", "sdxl": "SDXL", "anima": "Anima", "flux": "FLUX.1",
    "flux2_klein_4b": "FLUX.2 klein 4B", "flux2_klein_9b": "FLUX.2 klein 9B", "z_image": "Z-Image",
    "qwen_image": "Qwen-Image", "krea2": "Krea 2", "sd3_medium": "SD 3 medium", "sd35_medium": "SD 3.5 medium",
    "sd35_large": "SD 3.5 large",
}  # fmt: skip
SIZES = {"sd15": (512,), "sd21": (768,), "sdxl": (1024,), **dict.fromkeys(STREAMS, (512, 1024))}  # of pictures, px


def weights_of(name: str, kind: str = "half") -> Weights:
    """The weights as they are loaded: half or fp8."""
    network, text = BYTES[name]
    return Weights(network // 2, text, is_cast=True) if kind == "fp8" else Weights(network, text)


def settings_of(name: str) -> IcoSettings:
    """Batch 4, prior teacher, half precision, the rank that auto chooses."""
    return IcoSettings(batch=4, precision="bf16", rank=choose_rank(AUTO, family_widths(name)))


def counted_line(name: str) -> str:
    """A base's line in `docs/performance.md`."""
    widths, settings, weights = family_widths(name), settings_of(name), weights_of(name)
    cost = cost_of(name)
    assert cost is not None
    rows = [cost.row + cost.pixel * px**2 for px in SIZES[name]]
    one = replace(settings, batch=1)
    sums = []
    for px in SIZES[name]:
        for kind in ("half", "fp8") if name in STREAMS else ("half",):
            both = (
                step_bytes(cost, one, widths, weights_of(name, kind), px, text_on_cpu=apart) for apart in (False, True)
            )
            sums.append(" / ".join(f"{total / GIB:.1f}" for total in both))
    cells = [
        TITLES[name], f"{weights.unet / GIGA:.2f} + {weights.text / GIGA:.2f}",
        f"{learned_bytes(widths, settings.rank) / GIGA:.2f}", *(f"{row / GIGA:.2f}" for row in rows),
        f"{(cost.text + cost.text_row) / GIGA:.2f}", *sums,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def preset_lines(name: str) -> list[str]:
    """A base's lines on the help page: what each card takes."""
    kinds = ("half", "fp8") if name in STREAMS else ("half",)
    return [
        f"| {TITLES[name]}, {px} px{', fp8' if kind == 'fp8' else ''} | {presets(name, px, kind)} |"
        for kind in kinds
        for px in SIZES[name]
    ]


def presets(name: str, px: int, kind: str = "half") -> str:
    """What each card takes, from the smallest that takes anything; cards that differ in nothing are one."""
    found: list[tuple[str, str]] = []
    for card in CARDS:
        try:
            split = split_for(card, settings_of(name), name, family_widths(name), weights_of(name, kind), px)
        except BadSettings:
            continue
        assert split is not None
        if not found or found[-1][1] != told(split):
            found.append((card, told(split)))
    return ". ".join(f"{card}: {text}" for card, text in found) or "none of these cards"


def told(split: Split) -> str:
    """A split in words."""
    return f"{split.batch}, {'text encoders on the CPU, ' if split.text_on_cpu else ''}{split.total / GIB:.1f} GiB"


if __name__ == "__main__":
    for each in BYTES:
        print(counted_line(each))
    for each in BYTES:
        print("\n".join(preset_lines(each)))
