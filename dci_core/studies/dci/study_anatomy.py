"""Study C: what inside DCI matters. Layers, windows, guidance, gain, auxiliary noun, the inverted mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...attention.layers import LayerMask, list_blocks
from ...dci.row_plan import Guidance
from ...families.table import find_family
from .cells import PictureCell, cells_of
from .dials import Setting, Way, plain, with_dci
from .protocol import Ground, Size
from .spring import SpringCell
from .tables import Results, Row, rows_of

WINDOWS = (0.1, 0.3, 0.5, 0.7, 1.0)
NOUNS = ("cat", "star", "heart", "rocket")  # the last has a home; none is the class of a concept that is asked
MODES: tuple[Guidance, ...] = ("shared", "separate", "aligned")
SPRING_CFGS = (4.0, 7.5)
GAINS = ("reference", "scaled")  # how hard the maps decide; the shifted form is among `study_forms`


def sides() -> dict[int, str]:
    """Per side of the attention's grid in the tiny family, its layers as a layer text."""
    family = find_family("tiny")
    depths = sorted(set(family.depths.values()))
    side = family.latent_shape[1]
    return {side >> d: list_blocks([layer for layer, own in family.depths.items() if own == d]) for d in depths}


def layer_settings(base: Way) -> tuple[Setting, ...]:
    """Leave one resolution out, and one resolution alone."""
    found = [Setting("every layer", with_dci(base))]
    for side, text in sides().items():
        without = " ".join(f"{item}:0" for item in text.split())
        found.append(Setting(f"without {side} x {side}", with_dci(base, layers=LayerMask(f"all {without}"))))
    for side, text in sides().items():
        found.append(Setting(f"{side} x {side} alone", with_dci(base, layers=LayerMask(text))))
    return tuple(found)


def window_settings(base: Way, step_counts: Sequence[int]) -> tuple[Setting, ...]:
    """Windows at several step counts, and plain sampling at each."""
    found = []
    for num in step_counts:
        at = replace(base, sample=replace(base.sample, num_steps=num))
        found.append(Setting(f"{num} steps, window 0", at))
        found += [Setting(f"{num} steps, window {w:g}", with_dci(at, window=w)) for w in WINDOWS]
    return tuple(found)


def groups(size: Size) -> dict[str, tuple[Setting, ...]]:
    """Per question its settings."""
    base = size.plain
    inverted = (with_dci(base, inverts_noun=True), with_dci(base, inverts_noun=True, strength=1.4))
    return {
        "plain": (plain(base),),
        "layers": layer_settings(base),
        "window": window_settings(base, size.step_counts),
        "guidance": tuple(Setting(name, with_dci(base, guidance=name)) for name in MODES),
        "gain": tuple(Setting(name, with_dci(base, gain=name)) for name in GAINS),
        "strength": tuple(Setting(f"strength {s:g}", with_dci(base, strength=s)) for s in (0.0, 0.5, 1.0, 1.4, 2.0)),
        "auxiliary noun": tuple(Setting(noun, replace(with_dci(base), auxiliary=noun)) for noun in NOUNS),
        "auxiliary mask": (
            Setting("as meant", with_dci(base)),
            Setting("inverted", inverted[0]),
            Setting("as meant, strength 1.4", with_dci(base, strength=1.4)),
            Setting("inverted, strength 1.4", inverted[1]),
        ),
    }


def springs(size: Size, ground: Ground) -> list[SpringCell]:
    """The two latents followed through the window, in every guidance mode."""
    panel = size.anatomy
    asked = (panel.concepts[0], ground.training, ground.main, panel.prompts[:4], panel.seeds[:2])
    return [
        SpringCell(*asked, guidance=mode, num_steps=num, cfg=cfg)
        for mode in MODES
        for num in size.step_counts
        for cfg in SPRING_CFGS
    ]


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything the study draws and judges."""
    return cells_of(groups(size), size.anatomy, ground)


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """A row for each setting."""
    return rows_of(results, groups(size), size.anatomy, ground)
