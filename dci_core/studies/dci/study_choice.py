"""Before the studies: DCI's settings tried on development concepts, from which its defaults are chosen."""

from __future__ import annotations

from ...attention.layers import LayerMask
from .cells import PictureCell, cells_of
from .dials import Setting, plain, with_dci
from .protocol import Ground, Size
from .study_anatomy import sides
from .tables import Results, Row, rows_of

WINDOWS = (0.1, 0.2, 0.3, 0.5)
STRENGTHS = (1.0, 2.0, 3.0)


def groups(size: Size) -> dict[str, tuple[Setting, ...]]:
    """Plain sampling, and windows with strengths in every layer and at the coarsest resolution alone."""
    base, found = size.plain, dict[str, tuple[Setting, ...]]()
    for where, layers in (("every layer", LayerMask()), ("coarsest layers", LayerMask(sides()[min(sides())]))):
        found[where] = tuple(
            Setting(f"window {w:g}, strength {s:g}", with_dci(base, window=w, strength=s, layers=layers))
            for w in WINDOWS
            for s in STRENGTHS
        )
    return {"plain": (plain(base),), **found}


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything that is tried."""
    return cells_of(groups(size), size.candidates, ground)


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """A row for each setting."""
    return rows_of(results, groups(size), size.candidates, ground)
