"""Other forms of DCI, tried on development concepts: how strength acts, how the window closes, which noun stands in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...tiny.world.words import AUXILIARY_NOUNS
from .cells import PictureCell, cells_of, key_of, picture_cells
from .dials import AUXILIARY, Setting, plain, with_dci
from .protocol import Ground, Size
from .statistics import Array
from .sure_nouns import LOOKS, SureNounCell, surest
from .tables import MEASURES, NumbersByName, Results, Row, Scores, difference, row_from, rows_of, scores_of

SWAPS = (0.1, 0.2, 0.3)
DEFAULT, NOUN = "default", "auxiliary noun"


def groups(size: Size) -> dict[str, tuple[Setting, ...]]:
    """Plain sampling, DCI at its defaults and every other form, and the swap, its strongest rival."""
    base = size.plain

    def dci(name: str, **changes: Any) -> Setting:
        return Setting(name, with_dci(base, **changes))

    return {
        "plain": (plain(base),),
        DEFAULT: (dci("DCI at its defaults"),),
        "scale": tuple(dci(f"strength {s:g}", strength=s) for s in (1.0, 3.0)),
        "shift": (
            *(dci(f"strength {s:g}", form="shift", strength=s) for s in (2.0, 3.0, 4.0)),
            *(dci(f"strength {s:g}, window 0.3", form="shift", strength=s, window=0.3) for s in (2.0, 3.0)),
        ),
        "fade": (
            dci("scale, window 0.5", fade=0.5),
            dci("scale, window 0.7", fade=0.5, window=0.7),
            dci("shift, window 0.5", fade=0.5, form="shift"),
            dci("shift, window 0.7", fade=0.5, form="shift", window=0.7),
        ),
        NOUN: tuple(
            Setting(noun, replace(with_dci(base), auxiliary=noun)) for noun in AUXILIARY_NOUNS if noun != AUXILIARY
        ),
        "swap": tuple(Setting(f"window {w:g}", replace(base, swap_window=w)) for w in SWAPS),
    }


def looks(size: Size, ground: Ground) -> list[SureNounCell]:
    """How sure each noun's map is, for every concept."""
    panel = size.candidates
    return [
        SureNounCell(concept, ground.training, ground.main, noun, panel.prompts, panel.seeds)
        for concept in panel.concepts
        for noun in AUXILIARY_NOUNS
    ]


def cells(size: Size, ground: Ground) -> list[PictureCell | SureNounCell]:
    """Everything that is tried."""
    return [*cells_of(groups(size), size.candidates, ground), *looks(size, ground)]


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """A row for each setting, and one for each look at which a noun can be chosen by its map."""
    panel = size.candidates
    found = rows_of(results, groups(size), panel, ground)
    place = 1 + max(i for i, row in enumerate(found) if row.group == NOUN)
    chosen = [
        row_from(NOUN, f"the surest map's at look {look + 1} of {LOOKS}", scores, panel.prompts)
        for look, scores in enumerate(by_map(size, ground, results))
    ]
    return [*found[:place], *chosen, *found[place:]]


def by_map(size: Size, ground: Ground, results: Results) -> list[Scores]:
    """Per look: every prompt drawn with the noun whose map was surest there, from the nouns' own pictures."""
    panel, base = size.candidates, with_dci(size.plain)
    ways = {noun: replace(base, auxiliary=noun) for noun in AUXILIARY_NOUNS}
    cells = {noun: picture_cells(panel, ground.training, ground.main, way) for noun, way in ways.items()}
    drawn = {noun: scores_of(results, own) for noun, own in cells.items()}
    seen = {(cell.concept, cell.noun): results[key_of(cell)]["sureness"] for cell in looks(size, ground)}

    def picked(name: str, look: int) -> Array:
        chosen = [surest({noun: seen[c, noun] for noun in AUXILIARY_NOUNS}, look) for c in panel.concepts]
        return np.array([[getattr(drawn[n], name)[c, p] for p, n in enumerate(own)] for c, own in enumerate(chosen)])

    return [Scores(*(picked(name, look) for name in MEASURES)) for look in range(LOOKS)]


def minus_default(found: Sequence[Row]) -> dict[str, dict[str, NumbersByName]]:
    """Per group and setting its means minus the default's, from the same draws."""
    default = next(row for row in found if row.group == DEFAULT)
    told: dict[str, dict[str, NumbersByName]] = {}
    for row in found:
        told.setdefault(row.group, {})[row.name] = {
            name: difference(getattr(row.scores, name), getattr(default.scores, name)).row()
            for name in ("likeness", "following", "both")
        }
    return told
