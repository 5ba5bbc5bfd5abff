"""Study A: what training does. ICO against fixed templates along the run, and one thing changed at a time."""

from __future__ import annotations

from dataclasses import replace

from .cells import PictureCell, picture_cells
from .dials import Setting
from .protocol import Ground, Size, Training
from .tables import Results, Row, row_of

CURVES = ("ico", "fixed_template")


def fixed(ground: Ground) -> Training:
    """Custom Diffusion's training at the same settings: a fixed template, no contexts."""
    return replace(ground.training, ico=replace(ground.ico, contexts=False))


def curves(ground: Ground) -> dict[str, Training]:
    """What is followed along the whole run."""
    return {"ico": ground.training, "fixed_template": fixed(ground)}


def variants(ground: Ground) -> dict[str, Training]:
    """One thing changed at a time, at the ground's own checkpoint; the first is the ground itself."""
    own = ground.training
    other = "home" if ground.kind == "varied" else "varied"

    def changed(**ico: object) -> Training:
        return replace(own, ico=replace(own.ico, **ico))  # type: ignore[arg-type]

    prior = [name for name in ("teacher", "pictures", "none") if name != own.ico.prior]
    positions = "reference" if own.ico.positions == "corrected" else "corrected"
    return {
        "the ground": own,
        "fixed template": fixed(ground),
        "context 3 + 1 words": changed(prefix="photo of a", suffix="."),
        "context 4 + 2, random": changed(prefix=4, suffix=2),
        f"positions {positions}": changed(positions=positions),
        **{f"prior {name}": changed(prior=name) for name in prior},
        f"ICO, references {other}": replace(own, kind=other),
        f"fixed template, references {other}": replace(fixed(ground), kind=other),
    }


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything the study draws."""
    found = [
        cell
        for training in curves(ground).values()
        for step in ground.steps
        for cell in picture_cells(size.curve, training, step, size.plain)
    ]
    for training in variants(ground).values():
        found += picture_cells(size.variants, training, ground.main, size.plain)
    return found


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """The curves' rows, then the variants'."""
    found = [
        row_of(results, name, Setting(f"step {step}", size.plain, step), size.curve, training, ground.main)
        for name, training in curves(ground).items()
        for step in ground.steps
    ]
    for name, training in variants(ground).items():
        found.append(row_of(results, "variant", Setting(name, size.plain), size.variants, training, ground.main))
    return found
