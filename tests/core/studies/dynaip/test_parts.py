"""The adapter study's parts: known poses, how they are read, what the settings share, what the numbers mean."""

from __future__ import annotations

import numpy as np
import pytest

from dci_core.studies.dci.protocol import TEST
from dci_core.studies.dci.tables import Scores
from dci_core.studies.dynaip.pairs import SUBJECTS, halves, pair_words, places_for
from dci_core.studies.dynaip.plots import NAMES
from dci_core.studies.dynaip.pose import DESIGN, FACTORS, copying, measure, posed_references, templates_of
from dci_core.studies.dynaip.protocol import FULL, PAIRS, POSED, QUICK
from dci_core.studies.dynaip.report import answer, head
from dci_core.studies.dynaip.study import Plan, cost_of
from dci_core.studies.dynaip.tables import pair_scores, reach
from dci_core.studies.dynaip.ways import Adapters, methods
from dci_core.studies.gates.trial import to_tensor
from dci_core.tiny.world.concepts import CONCEPTS
from dci_core.tiny.world.couples import paint_couple
from dci_core.tiny.world.scene import Pose, Scene, render
from dci_core.tiny.world.words import NEVER

CORE_SECONDS = 0.010  # of a row of one step on one core
PLAN = Plan(QUICK, Adapters("main", "last"))


def centre_of(mask: np.ndarray) -> tuple[float, float]:
    """Middle of the mask's box, as parts of the picture."""
    rows, columns = np.nonzero(mask > 127)
    return (columns.min() + columns.max() + 1) / 256, (rows.min() + rows.max() + 1) / 256


def test_a_posed_render_stands_where_it_is_told_and_keeps_its_ground() -> None:
    scene = Scene(CONCEPTS[12].thing, "night")  # a butterfly, as wide on both sides
    plain = render(scene, np.random.default_rng(4))
    for x, flips in ((0.38, False), (0.62, True)):
        rng = np.random.default_rng(4)
        posed = render(scene, rng, Pose(x, 0.56, 0.3, flips))
        assert centre_of(np.asarray(posed.mask))[0] == pytest.approx(x, abs=0.02)
    again = np.random.default_rng(4)
    render(scene, again)
    assert rng.random() == again.random()  # as many numbers drawn: what follows is the same
    assert np.array_equal(np.asarray(plain.picture), np.asarray(render(scene, np.random.default_rng(4)).picture))


def test_the_design_sets_each_factor_apart() -> None:
    signs = np.array(DESIGN)
    assert np.array_equal(signs.T @ signs, 8 * np.eye(4))


@pytest.mark.parametrize("concept", [9, 14])
def test_references_copied_whole_read_as_one_and_one_picture_for_all_as_zero(concept: int) -> None:
    thing = CONCEPTS[concept]
    posed = posed_references(thing)
    seen = measure(to_tensor([one.rendered for one in posed]), templates_of(thing.thing))
    for name in FACTORS:
        truth = [one.truth[name] for one in posed]
        assert copying(np.array(seen[name]), truth, name) == pytest.approx(1, abs=0.15)
        assert copying(np.full((2, 3, 8), seen[name][0]), truth, name) == pytest.approx(np.zeros((2, 3)))


def test_every_method_has_as_many_settings_and_a_name() -> None:
    found = methods(QUICK.sample, PLAN.adapters)
    assert {len(settings) for settings in found.values()} == {5} and set(found) == set(NAMES)


def test_settings_that_methods_share_are_drawn_once() -> None:
    wanted = sum(map(len, PLAN.groups.values()))
    ways = {setting.way for settings in PLAN.groups.values() for setting in settings}
    assert len(ways) == wanted - 3  # the plain point of three dials, and the trained wiring's scale 1
    other = Plan(QUICK, Adapters("main", "another"))
    assert len(set(PLAN.cells()) - set(other.cells())) == 5 * len(QUICK.subjects.concepts)
    assert not set(PLAN.cells()) & set(Plan(QUICK, Adapters("other")).cells()) - set(no_adapter_cells())


def no_adapter_cells() -> list[str]:
    """Keys of cells that no adapter has a part in."""
    return [key for key, cell in PLAN.cells().items() if not getattr(getattr(cell, "way", None), "adapter", "")]


def test_only_test_concepts_are_reported() -> None:
    for size in (QUICK, FULL):
        assert {*size.subjects.concepts, *size.poses.concepts} <= set(TEST)
        assert {number for pair in size.pairs.concepts for number in PAIRS[pair]} <= set(TEST)
        assert max(size.pairs.prompts) < min(len(places_for(pair)) for pair in size.pairs.concepts)
    assert len({number for pair in PAIRS for number in pair}) == 12 and set(POSED) <= set(TEST)


def test_the_quick_study_fits_a_quarter_of_an_hour_on_two_cores() -> None:
    seconds = cost_of(list(PLAN.cells().items())) * CORE_SECONDS / 2
    assert 60 < seconds < 0.75 * 15 * 60  # the rest: codec, judge, start


def test_a_pair_s_prompt_names_both_nouns_in_a_place_that_both_know() -> None:
    assert pair_words(1, "water") == "a bird in water next to a car"
    for pair, numbers in enumerate(PAIRS):
        assert not {place for n in numbers for place in NEVER[CONCEPTS[n].thing.noun]} & set(places_for(pair))


def test_true_pairs_stand_in_their_halves() -> None:
    things = [CONCEPTS[number].thing for number in PAIRS[1]]
    mask = np.asarray(paint_couple(things, "water", np.random.default_rng(0)).mask)
    left, right = ((half > 127).sum() for half in np.split(mask, 2, axis=1))
    assert left > 500 and right > 500 and not (mask[:, 62:66] > 127).any()
    first, second = halves()
    assert first.sum() == second.sum() and not (first * second).any()


def test_a_leak_is_likeness_in_the_wrong_half() -> None:
    values = dict(zip(SUBJECTS, (0.9, 0.2, 0.4, 0.7), strict=True))
    found = [{name: [[value]] for name, value in {**values, "nearer": 1.0, "noun": 1.0, "place": 1.0}.items()}]
    both, alone = (pair_scores(found, mode) for mode in ("regions", "first alone"))
    assert both["own"].item() == pytest.approx(0.8) and both["leak"].item() == pytest.approx(0.3)
    assert alone["own"].item() == pytest.approx(0.9) and alone["leak"].item() == pytest.approx(0.4)


def test_following_is_read_at_a_share_of_the_best_likeness_of_all() -> None:
    def scores(likeness: float, following: float) -> Scores:
        return Scores(*(np.full((2, 2, 1), value) for value in (likeness, following, 0.0, 1.0)))

    points, best = [scores(0.8, 0.5), scores(0.2, 1.0)], np.full(2001, 0.8)
    assert reach(points, best).at_share is not None
    assert reach(points, best).at_share[0] == pytest.approx(0.5 + 0.5 * 0.04 / 0.6)  # type: ignore[index]
    assert reach(points, best * 2).at_share[0] == 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "word"), [(-0.2, "Yes: -0.200"), (0.2, "No: +0.200"), (0.005, "Not decided: +0.005")]
)
def test_an_answer_follows_its_interval(value: float, word: str) -> None:
    change = {"value": value, "low": value - 0.01, "high": value + 0.01}
    assert answer("Does it fall?", change, -1).startswith(f"- Does it fall? {word}")


def test_the_head_says_what_the_adapter_read_in_training() -> None:
    asked = {
        "size": "quick",
        "concepts": [1],
        "seeds": 1,
        "posed_concepts": [],
        "pairs_of_concepts": [],
        "adapter": "a",
    }
    assert "each reading another picture." in head({**asked, "same_picture": 0.0})
    assert "50% of the rows reading the very picture that they drew." in head({**asked, "same_picture": 0.5})


def test_sizes_can_be_cut() -> None:
    small = FULL.with_seeds(1).with_concepts(2)
    for panel in (small.subjects, small.poses, small.pairs):
        assert len(panel.concepts) == 2 and panel.seeds == (0,)
