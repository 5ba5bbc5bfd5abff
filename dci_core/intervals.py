"""The interval of a mean, for pictures that come several to a prompt."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

DRAWS, SEED = 4000, 17


def interval(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[float, float]:
    """95% bootstrap interval of the mean: whole groups drawn again, since their pictures go together."""
    names = sorted(set(groups), key=list(groups).index)
    parts = [[value for value, group in zip(values, groups, strict=True) if group == name] for name in names]
    sums, counts = np.array([sum(part) for part in parts]), np.array([len(part) for part in parts])
    drawn = np.random.default_rng(SEED).integers(len(parts), size=(DRAWS, len(parts)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)
