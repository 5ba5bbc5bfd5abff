"""Study B: from one checkpoint per concept, what DCI and each plain dial can reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .cells import PictureCell, cells_of
from .dials import Setting, controls, dials, plain
from .protocol import Ground, Size
from .statistics import Array, Measured, Spots, drawn_means, measured
from .tables import Results, Row, Scores, rows_of

SHARE = 0.95  # of plain likeness


def groups(size: Size, ground: Ground) -> dict[str, tuple[Setting, ...]]:
    """Plain sampling, every dial, the controls."""
    base = size.plain
    return {"plain": (plain(base),), **dials(base, ground.earlier), "control": controls(base)}


def cells(size: Size, ground: Ground) -> list[PictureCell]:
    """Everything the study draws."""
    return cells_of(groups(size, ground), size.dials, ground)


def rows(size: Size, ground: Ground, results: Results) -> list[Row]:
    """Plain, every dial's settings, the controls."""
    return rows_of(results, groups(size, ground), size.dials, ground)


@dataclass(frozen=True)
class Reach:
    """What one method reaches over all draws, [1 + draws] each.

    at_share  the most prompt-following at 95% of plain likeness; None where there is no plain point to refer to
    """

    hypervolume: Array
    at_share: Array | None = None


def reach(points: Sequence[Scores], plain: Scores | None) -> Reach:
    """Of a method's settings; plain sampling is one of them where it is given."""
    every = [*points, *([plain] if plain is not None else [])]
    spots = Spots.of([(scores.likeness, scores.following) for scores in every])
    at = None if plain is None else spots.following_at(SHARE, drawn_means(plain.likeness))
    return Reach(spots.hypervolume(), at)


def reaches(found: Sequence[Row], low_prior: bool = False) -> dict[str, Reach]:
    """Per dial what it reaches, from the study's rows."""
    plain = side(next(row for row in found if row.group == "plain"), low_prior)
    names = dict.fromkeys(row.group for row in found if row.group not in ("plain", "control"))
    return {name: reach([side(row, low_prior) for row in found if row.group == name], plain) for name in names}


def side(row: Row, low_prior: bool) -> Scores:
    """All prompts, or the low-prior ones."""
    if not low_prior:
        return row.scores
    assert row.low_prior is not None  # asked only where the panel has some
    return row.low_prior


def leads(found: Mapping[str, Reach], name: str = "dci") -> dict[str, dict[str, Measured]]:
    """Per other method, how far `name` is ahead in each number; the same draws on both sides."""
    own, ahead = found[name], {}
    for other, theirs in found.items():
        if other == name:
            continue
        numbers = {"hypervolume": measured(own.hypervolume - theirs.hypervolume)}
        if own.at_share is not None and theirs.at_share is not None:
            numbers["prompt_following_at_95_likeness"] = measured(own.at_share - theirs.at_share)
        ahead[other] = numbers
    return ahead
