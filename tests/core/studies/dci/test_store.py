"""What a study keeps: results that survive a kill, checkpoints that go on, and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dci_core.errors import BadConcept, BadSettings, NotSaved
from dci_core.ico.settings import IcoSettings
from dci_core.studies.dci import crew, protocol, study, study_anatomy
from dci_core.studies.dci.cells import Bench, PictureCell, key_of
from dci_core.studies.dci.dials import Way
from dci_core.studies.dci.ground import Lesson, Shelf
from dci_core.studies.dci.judging import CeilingCell
from dci_core.studies.dci.protocol import FULL, GROUND, QUICK, Training
from dci_core.studies.dci.store import ABOUT as ABOUT_FILE
from dci_core.studies.dci.store import LINES, Store, read_about, read_lines
from dci_core.tiny.defaults import TINY_DCI
from dci_core.tiny.model import WEIGHTS
from dci_core.tiny.world.concepts import CONCEPTS

ABOUT = {"size": {"name": "quick", "seeds": (0, 1)}, "weights": "abc"}
TRAINING = Training("varied", IcoSettings(batch=1, scale_rate=False, learning_rate=1e-3))


def test_results_are_there_again_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    store = Store.open(tmp_path, ABOUT)
    store.keep("one", {"likeness": [[0.5]]})
    store.keep("two", {"likeness": [[0.25]]})
    path = tmp_path / LINES
    path.write_text(path.read_text()[:-12])
    again = Store.open(tmp_path, ABOUT)
    assert again.results == {"one": {"likeness": [[0.5]]}}
    again.keep("two", {"likeness": [[1.0]]})
    assert Store.open(tmp_path, ABOUT).results == again.results and len(again.results) == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"weights": "xyz"}, "another weights of the small world: abc, not xyz"),
        ({"size": {"name": "full", "seeds": (0, 1)}}, r"another size \(name\): quick, not full"),
        ({"size": {"name": "quick", "seeds": (0,)}}, r"another size \(seeds\)"),
    ],
)
def test_a_study_of_other_settings_is_refused(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    Store.open(tmp_path, ABOUT)
    with pytest.raises(BadSettings, match=words):
        Store.open(tmp_path, {**ABOUT, **changed})
    assert Store.open(tmp_path, ABOUT).results == {}


def test_a_damaged_study_file_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(BadSettings, match="cannot be read"):
        Store.open(tmp_path, ABOUT)


def test_a_result_that_cannot_be_written_gets_a_sentence(tmp_path: Path) -> None:
    store = Store.open(tmp_path, ABOUT)
    (tmp_path / LINES).mkdir()
    with pytest.raises(NotSaved, match="could not be added"):
        store.keep("one", {})


def test_a_cell_s_key_follows_everything_that_decides_its_numbers() -> None:
    cell = PictureCell(8, TRAINING, 10, Way(), (0, 1), (0,))
    others = [
        replace(cell, concept=9),
        replace(cell, step=11),
        replace(cell, seeds=(1,)),
        replace(cell, way=Way(concept_strength=0.5)),
        replace(cell, training=replace(TRAINING, kind="home")),
    ]
    assert len({key_of(one) for one in (cell, *others)}) == 6
    assert key_of(cell) == key_of(PictureCell(8, TRAINING, 10, Way(), (0, 1), (0,)))


def test_a_setting_that_came_later_leaves_kept_results_their_keys() -> None:
    kept = Path(__file__).parents[4] / "docs" / "evidence" / "many"
    known = read_lines(kept / LINES)
    plan = study.Plan(protocol.MANY, GROUND, ("claim",))
    assert known and set(known) <= set(plan.cells())
    assert read_about(kept / ABOUT_FILE)["dci"] == json.loads(json.dumps(plan.about(WEIGHTS)))["dci"]
    usual = PictureCell(8, TRAINING, 10, Way(dci=TINY_DCI), (0,), (0,))
    others = [replace(usual, way=Way(dci=replace(TINY_DCI, **change))) for change in ({"form": "shift"}, {"fade": 0.5})]
    assert len({key_of(one) for one in (usual, *others)}) == 3


def test_a_lesson_that_goes_on_gives_what_one_in_a_piece_gives(weights: Path, tmp_path: Path) -> None:
    bench = Bench(weights, Shelf(tmp_path / "halved", "w"))
    bench.shelf.teach(bench.world, Lesson(8, TRAINING, (1, 2)))
    assert bench.shelf.cost(Lesson(8, TRAINING, (1, 2))) == 0 and bench.shelf.cost(Lesson(8, TRAINING, (2, 3))) == 1
    bench.shelf.teach(bench.world, Lesson(8, TRAINING, (2, 3)))
    whole = Shelf(tmp_path / "whole", "w")
    whole.teach(bench.world, Lesson(8, TRAINING, (3,)))
    one, other = bench.shelf.load(8, TRAINING, 3), whole.load(8, TRAINING, 3)
    assert torch.equal(one.tokens["clip_l"], other.tokens["clip_l"])
    assert all(torch.equal(a, b) for a, b in zip(one.weights().values(), other.weights().values(), strict=True))
    assert not torch.equal(bench.shelf.load(8, TRAINING, 2).tokens["clip_l"], one.tokens["clip_l"])


def test_another_world_s_concepts_are_not_taken(tmp_path: Path) -> None:
    assert Shelf(tmp_path, "one").path(8, TRAINING, 3) != Shelf(tmp_path, "other").path(8, TRAINING, 3)
    assert Shelf(tmp_path, "one").place(8, TRAINING) == Shelf(tmp_path, "one").place(
        8, replace(TRAINING, ico=replace(TRAINING.ico, steps=5))
    )


def test_workers_give_the_numbers_of_one_process_and_their_errors_come_back(tmp_path: Path) -> None:
    bench = Bench(WEIGHTS, Shelf(tmp_path, "w"))
    jobs = [CeilingCell(8), CeilingCell(9)]
    assert list(crew.work(bench, [], 2)) == []
    assert dict(crew.work(bench, jobs, 2)) == dict(crew.work(bench, jobs, 1))
    with pytest.raises(BadConcept, match="could not be read"):
        exhaust(crew.work(bench, [*jobs, PictureCell(8, TRAINING, 3, Way(), (0,), (0,))], 2))


def exhaust(steps: Iterator[object]) -> None:
    for _ in steps:
        pass


def test_a_cell_that_two_studies_want_is_played_once() -> None:
    both = study.Plan(QUICK, GROUND, ("a", "b")).cells()
    alone = [study.Plan(QUICK, GROUND, (letter,)).cells() for letter in "ab"]
    assert len(both) < sum(map(len, alone)) and set(both) == {key for cells in alone for key in cells}


def test_lessons_hold_every_step_of_a_training_once() -> None:
    plan = study.Plan(QUICK, GROUND, ("a", "b"))
    found = study.lessons(plan.cells().values())
    names = [(lesson.concept, repr(lesson.training)) for lesson in found]
    assert len(set(names)) == len(names)
    own = next(one for one in found if one.training == GROUND.training and one.concept == QUICK.curve.concepts[0])
    assert set(own.steps) == {*GROUND.earlier, GROUND.main, *GROUND.later}


def test_what_is_reported_is_never_what_was_chosen_on() -> None:
    for size in (QUICK, FULL):
        for panel in (size.dials, size.curve, size.variants, size.anatomy, size.judge):
            assert set(panel.concepts) <= set(protocol.TEST)
        assert set(size.candidates.concepts) <= set(protocol.DEVELOPMENT)
    assert len(protocol.TEST) == 12 and len(protocol.DEVELOPMENT) == 8


def test_no_auxiliary_noun_is_the_class_of_a_concept_that_is_asked() -> None:
    for size in (QUICK, FULL):
        assert not {CONCEPTS[c].thing.noun for c in size.anatomy.concepts} & set(study_anatomy.NOUNS)


@pytest.mark.parametrize("name", ["a,x", "", "b;c"])
def test_an_unknown_study_is_named(name: str) -> None:
    with pytest.raises(BadSettings, match="expected"):
        study.read_studies(name)


def test_about_is_plain_data() -> None:
    about = study.Plan(QUICK, GROUND, ("a",)).about(WEIGHTS)
    assert json.loads(json.dumps(about))["size"]["name"] == "quick"
