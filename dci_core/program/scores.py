"""Means with intervals, for pictures that come several to a prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000
SEED = 17
Scores = NDArray[np.float64]
"""[prompts seeds], each in 0..1"""


def interval(scores: Scores) -> tuple[float, float]:
    """95% bootstrap interval of the mean: prompts drawn again with all their pictures, since those go together."""
    rng = np.random.default_rng(SEED)
    means = scores.mean(axis=1)
    drawn = means[rng.integers(len(means), size=(DRAWS, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
