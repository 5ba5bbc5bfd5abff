"""Which dial DCI should be turned by, on development concepts: by window or strength, published or shifted, and where
the concept's changes act; beside the two plain dials that were level with it or ahead.

A rule was fixed before anything was drawn: test objects are asked with the dial that follows most at 95% of plain
likeness. The untuned model's auxiliary came after the others had been seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .cells import PictureCell, cells_of
from .dials import Setting, Way, dials, plain, shifted, shifted_dials
from .protocol import Ground, Size
from .statistics import measured
from .study_inference import Reach, reaches
from .tables import NumbersByName, Results, Row, rows_of

TODAY, STRENGTH = "DCI, window", "concept strength"
SHARES = (0.0, 0.3, 0.6, 1.0)  # of the changes that stay on words of the concept's prompt that are not its own


def groups(size: Size) -> dict[str, tuple[Setting, ...]]:
    """Plain sampling, and each dial with four settings."""
    base, today, found = size.plain, dials(size.plain), shifted_dials(size.plain)

    def own_words(common: float) -> Way:
        return replace(base, common=common, others=0.0)

    return {
        "plain": (plain(base),),
        TODAY: today["dci"],
        "DCI shifted, window at strength 2": found["dci_shifted"],
        "DCI shifted, window at strength 3": tuple(shifted(base, 3.0, w) for w in (0.1, 0.2, 0.3, 0.5)),
        "DCI shifted, strength in window 0.3": tuple(shifted(base, s, 0.3) for s in (1.0, 2.0, 3.0, 4.0)),
        "DCI shifted, strength in window 0.5": tuple(shifted(base, s, 0.5) for s in (1.0, 2.0, 2.5, 3.0)),
        "DCI shifted, window and then strength": found["dci_wide"],
        "changes on own words": tuple(Setting(f"{share:g} on the others", own_words(share)) for share in SHARES),
        "changes on own words, DCI shifted": tuple(
            replace(shifted(own_words(share), 2.0, 0.5), name=f"{share:g} on the others") for share in SHARES
        ),
        "auxiliary of the untuned model, DCI shifted": tuple(
            shifted(own_words(1.0), strength, window)
            for strength, window in ((2.0, 0.2), (2.0, 0.3), (1.0, 0.3), (1.0, 0.5))
        ),
        STRENGTH: today["strength_dial"],
        "prompt swap": today["prompt_swap_dial"],
    }


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything that is tried."""
    return cells_of(groups(size), size.candidates, ground)


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """A row for each setting of each dial; one that belongs to several stands in each."""
    return rows_of(results, groups(size), size.candidates, ground)


def compared(found: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Per dial what it reaches, and that minus what today's dial and concept strength reach, from the same draws."""
    every = reaches(found)
    return {
        name: {
            "reached": numbers(one),
            "minus today's": numbers(one, every[TODAY]),
            "minus concept strength": numbers(one, every[STRENGTH]),
        }
        for name, one in every.items()
    }


def numbers(one: Reach, other: Reach | None = None) -> NumbersByName:
    """Hypervolume and following at 95% of plain likeness, or how far they are above another dial's."""
    assert one.at_share is not None and (other is None or other.at_share is not None)  # plain sampling is always there
    area = one.hypervolume if other is None else one.hypervolume - other.hypervolume
    at = one.at_share if other is None or other.at_share is None else one.at_share - other.at_share
    return {"hypervolume": measured(area).row(), "following": measured(at).row()}
