"""Draws that give NaN: one is left out and told, ten in a row stop with the concept as it was, and come never again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from check_graph import learning, shelf
from check_tiny import worlds
from check_training import in_new_folder, same
from graphs import SEEN, Graph, Queue, Red
from lab import PACK

Draw = tuple[int, int]  # (finished steps, how many draws of the next step came before)


@contextmanager
def imitated(is_bad: Callable[[Draw], bool]) -> Iterator[list[Draw]]:
    """The tiny world whose U-Net answers NaN at such draws; the draws that were made, in order."""
    train, (_, model, _) = PACK["dci_core.ico.train"], worlds()
    kept, drawn = train.generator_for, []

    def watched(seed: int, *place: Any) -> torch.Generator:
        if place[0] == "step":
            drawn.append((place[1], place[4] if len(place) > 4 else 0))
        return kept(seed, *place)

    def answer(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor | None:
        return out * float("nan") if drawn and is_bad(drawn[-1]) else None

    train.generator_for = watched
    hook = model.model.diffusion_model.register_forward_hook(answer)
    try:
        yield drawn
    finally:
        hook.remove()
        train.generator_for = kept


def without_prior(**given: Any) -> Graph:
    """A training in which only the concept's rows run."""
    return learning(prior="none", **given)


def warnings_of(queue: Queue) -> list[str]:
    """What the node says of its training."""
    told: list[str] = queue.executor.history_result["outputs"]["train"]["ico_dci"][0]["warnings"]
    return told


def attempts(drawn: list[Draw]) -> list[Draw]:
    """Each draw once, in order: a training's first draw serves the count of memory too."""
    return list(dict.fromkeys(drawn))


def test_one_bad_draw_is_replaced_by_another_and_told_on_the_node() -> None:
    shelf()

    def check(folder: Path) -> None:
        queue = Queue()
        with imitated({(1, 0), (2, 0), (2, 1)}.__contains__) as drawn:
            assert queue.run(without_prior(steps=4)) is None
        assert attempts(drawn) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 0)]
        assert any("3 draws gave no finite loss" in line for line in warnings_of(queue)), warnings_of(queue)
        concept = SEEN["concept"][-1]
        assert concept.about.loss["steps"] == 4 and all(rows.isfinite().all() for rows in concept.tokens.values())
        assert [file.suffix for file in folder.rglob("zorp*.safetensors")] == [".safetensors"]
        assert queue.run(without_prior(steps=4, seed=5)) is None
        assert not warnings_of(queue)

    in_new_folder(check)


def test_ten_bad_draws_give_the_concept_as_it_was_and_the_next_queue_tries_others() -> None:
    shelf()

    def check(folder: Path) -> None:
        assert Queue().run(without_prior(steps=2)) is None
        two = SEEN["concept"][-1]
        for file in folder.rglob("zorp*"):
            file.unlink()
        queue = Queue()
        with imitated(lambda draw: draw[0] == 2 and draw[1] < 10) as drawn:
            assert queue.run(without_prior(steps=4)) is None
            assert attempts(drawn) == [(0, 0), (1, 0), *((2, index) for index in range(10))]
            reached = SEEN["concept"][-1]
            assert same(reached, two) and reached.about.loss["steps"] == 2
            assert any("stopped after step 2 of 4" in line for line in warnings_of(queue)), warnings_of(queue)
            assert [file.suffix for file in folder.rglob("zorp*")] == [".training"]  # nothing passes for finished
            drawn.clear()
            later = Queue()
            assert later.run(without_prior(steps=4)) is None
            assert [draw for draw in attempts(drawn) if draw[0] == 2] == [(2, 10)], drawn
        assert SEEN["concept"][-1].about.loss["steps"] == 4
        assert not any("stopped" in line for line in warnings_of(later))
        assert len(list(folder.rglob("zorp*.safetensors"))) == 1

    in_new_folder(check)


def test_ten_bad_draws_of_the_first_step_turn_the_node_red_and_the_next_queue_tries_others() -> None:
    shelf()

    def check(folder: Path) -> None:
        assert Queue().run(without_prior(steps=2)) is None
        for file in folder.rglob("zorp*"):
            file.unlink()
        queue = Queue()
        with imitated(lambda draw: draw[0] == 0 and draw[1] < 20) as drawn:
            for first in (0, 10):
                red = queue.run(without_prior(steps=2))
                assert isinstance(red, Red) and red.node == "train" and red.kind == "TrainingDiverged", red
                assert "10 draws in a row of step 1" in red.sentence and "\n" not in red.sentence
                assert attempts(drawn) == [(0, index) for index in range(first, first + 10)]
                assert [file.suffix for file in folder.rglob("zorp*")] == [".training"]
                drawn.clear()
            assert queue.run(without_prior(steps=2)) is None
            assert attempts(drawn) == [(0, 20), (1, 0)]
        assert SEEN["concept"][-1].about.loss["steps"] == 2
        assert len(list(folder.rglob("zorp*.safetensors"))) == 1

    in_new_folder(check)


def test_a_model_that_never_answers_turns_the_node_red_and_leaves_no_concept() -> None:
    shelf()

    def check(folder: Path) -> None:
        with imitated(lambda draw: True):
            red = Queue().run(without_prior(steps=4))
        assert isinstance(red, Red) and "compute in fp32" in red.sentence, red
        assert not list(folder.rglob("zorp*.safetensors"))
        assert Queue().run(without_prior(steps=4)) is None

    in_new_folder(check)
