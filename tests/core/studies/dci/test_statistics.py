"""Frontiers by hand, and the clustered bootstrap against loops written out."""

from __future__ import annotations

import numpy as np
import pytest

from dci_core.studies.dci.statistics import (
    DRAWS,
    SEED,
    Spots,
    draw_weights,
    drawn_means,
    following_at,
    frontier,
    hypervolume,
    mean,
    measured,
)
from dci_core.studies.dci.tables import difference


def some_scores(seed: int = 0, shape: tuple[int, int, int] = (3, 4, 2)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def test_the_hypervolume_of_one_point_is_its_rectangle() -> None:
    assert hypervolume([(0.5, 0.8)]) == pytest.approx(0.4)
    assert hypervolume([]) == hypervolume([(0.0, 1.0)]) == 0


def test_the_hypervolume_of_a_staircase_is_the_area_under_it() -> None:
    points = [(0.9, 0.3), (0.6, 0.7), (0.2, 1.0)]
    assert hypervolume(points) == pytest.approx(0.9 * 0.3 + 0.6 * 0.4 + 0.2 * 0.3)
    assert hypervolume([*points, (0.5, 0.5), (0.6, 0.7)]) == pytest.approx(hypervolume(points))


def test_the_hypervolume_equals_the_share_of_random_points_that_are_dominated() -> None:
    rng = np.random.default_rng(3)
    points = [(float(a), float(b)) for a, b in rng.random((6, 2))]
    where = rng.random((200_000, 2))
    below = np.any([(where[:, 0] <= a) & (where[:, 1] <= b) for a, b in points], axis=0)
    assert hypervolume(points) == pytest.approx(below.mean(), abs=0.005)


def test_the_frontier_leaves_out_what_another_point_beats() -> None:
    assert frontier([(0.5, 0.5), (0.9, 0.2), (0.9, 0.4), (0.4, 0.5)]) == [(0.9, 0.4), (0.5, 0.5)]


def test_following_is_read_off_between_neighbours_of_the_frontier() -> None:
    points = [(1.0, 0.4), (0.8, 0.6), (0.9, 0.1)]
    assert following_at(points, 0.9) == pytest.approx(0.5)
    assert following_at(points, 1.0) == 0.4
    assert following_at(points, 0.7) == 0.6
    assert following_at(points, 1.1) == 0.0


def test_the_first_draw_is_the_sample_and_every_draw_weighs_one() -> None:
    weights = draw_weights(3, 4)
    assert weights.shape == (1 + DRAWS, 3, 4)
    assert np.allclose(weights.sum(axis=(1, 2)), 1) and np.allclose(weights[0], 1 / 12)


def test_the_bootstrap_draws_concepts_and_then_prompts_within_each() -> None:
    scores = some_scores()
    rng = np.random.default_rng(SEED)
    concepts, prompts = rng.integers(3, size=(DRAWS, 3)), rng.integers(4, size=(DRAWS, 3, 4))
    naive = [
        np.mean([scores[c, p].mean() for c, row in zip(concepts[d], prompts[d], strict=True) for p in row])
        for d in range(DRAWS)
    ]
    drawn = drawn_means(scores)
    assert drawn[0] == pytest.approx(scores.mean()) and np.allclose(drawn[1:], naive)
    found = mean(scores)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(naive, (0.025, 0.975))))


def test_seeds_of_one_prompt_do_not_narrow_the_interval() -> None:
    scores = some_scores(shape=(3, 4, 1))
    one, many = mean(scores), mean(np.repeat(scores, 50, axis=2))
    assert (one.value, one.low, one.high) == pytest.approx((many.value, many.low, many.high))


def test_pairing_takes_what_methods_share_out_of_the_interval() -> None:
    shared = some_scores()
    alone, paired = mean(shared), difference(shared + 0.1, shared)
    assert alone.high - alone.low > 0.1
    assert paired.high - paired.low == pytest.approx(0, abs=1e-12) and paired.value == pytest.approx(0.1)


def test_a_method_s_reach_is_worked_out_in_every_draw() -> None:
    settings = [(some_scores(i), some_scores(10 + i)) for i in range(3)]
    spots = Spots.of(settings)
    drawn, plain = spots.hypervolume(), drawn_means(settings[0][0])
    at = spots.following_at(0.95, plain)
    for d in (0, 1, 77):
        points = [(float(drawn_means(a)[d]), float(drawn_means(b)[d])) for a, b in settings]
        assert drawn[d] == pytest.approx(hypervolume(points))
        assert at[d] == pytest.approx(following_at(points, 0.95 * plain[d]))
    assert measured(drawn).low <= measured(drawn).high
