"""Samples of a training: no trace in it, kept beside it, and the step that looks best can be had at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from check_graph import is_one_sentence, learning, shelf
from check_kept import steps_made
from check_tiny import concept
from check_training import in_new_folder, lesson, same, train
from graphs import SEEN, Queue, Red, changed
from lab import PACK

PROMPTS = ["a {concept}", "a {concept} in snow"]


def samples(every: int = 2) -> Any:
    return PACK["nodes.host.ico.samples"].Samples(every, PROMPTS)


def test_samples_leave_no_trace_and_come_again_from_disk() -> None:
    def check(folder: Path) -> None:
        plain, losses = train(lesson(steps=4))
        for file in folder.rglob("zorp*"):
            file.unlink()
        drawn = samples()
        concept, again = train(lesson(steps=4, samples=drawn))
        assert same(plain, concept) and losses == again
        assert sorted(drawn.pictures) == [(2, 0), (2, 1), (4, 0), (4, 1)]
        assert drawn.batch().shape == (4, 128, 128, 3) and not torch.equal(*drawn.batch()[:2])
        recalled = samples()
        (_, _), made = steps_made(lambda: train(lesson(steps=4, samples=recalled)))
        assert made == [] and torch.equal(recalled.batch(), drawn.batch())
        off = samples(0)
        train(lesson(steps=4, samples=off))
        assert off.batch() is None

    in_new_folder(check)


def written() -> list[str]:
    """Names of the sample files in the host's output folder."""
    import folder_paths

    return sorted(path.name for path in Path(folder_paths.get_output_directory()).rglob("step_*.png"))


def files_meanwhile(chosen: Any) -> list[tuple[int, list[str]]]:
    """[(step, files of samples that are there when it ends, before its own round)] of a training."""
    training, seen = PACK["nodes.host.ico.training"], []
    before = training.after_step

    def after_step(reports: Any, *args: Any) -> None:
        seen.append((reports[-1].step, written()))
        before(reports, *args)

    training.after_step = after_step
    try:
        train(chosen)
    finally:
        training.after_step = before
    return seen


def test_samples_are_files_while_the_training_runs() -> None:
    def check(folder: Path) -> None:
        drawn, first = samples(), [f"step_00002_prompt_{number}.png" for number in (1, 2)]
        assert files_meanwhile(lesson(steps=4, samples=drawn)) == [(1, []), (2, []), (3, first), (4, first)]
        assert len(written()) == len(drawn.pictures) == 4

    in_new_folder(check)


def test_samples_wait_where_the_vae_would_push_out_what_is_trained() -> None:
    covers = PACK["nodes.host.ico.covers"]

    def check(folder: Path) -> None:
        kept, covers.fits_beside = covers.fits_beside, lambda *_: False
        try:
            drawn = samples()
            assert all(names == [] for _, names in files_meanwhile(lesson(steps=4, samples=drawn)))
        finally:
            covers.fits_beside = kept
        assert len(drawn.write()) == 4 == len(written())

    in_new_folder(check)


def test_the_page_is_shown_each_round_and_the_time_left_counts_the_rounds_to_come() -> None:
    live = PACK["nodes.host.page.live"]

    def check(folder: Path) -> None:
        told, before = [], live.events.tell
        live.events.tell = lambda event, **facts: told.append(facts)
        try:
            with live.live_training("zorp fish") as training:
                drawn = samples()
                train(lesson(steps=4, samples=drawn))
                assert training.facts["samples"]["step"] == 4
        finally:
            live.events.tell = before
        rounds = [facts["samples"] for facts in told if facts.get("samples") and "points" not in facts]
        assert [one["step"] for one in rounds] == [2, 4]
        assert [one["prompt"] for one in rounds[0]["pictures"]] == PROMPTS
        assert all(one["picture"].startswith("data:image/jpeg") for one in rounds[0]["pictures"])
        lefts = {facts["step"]: facts["left"] for facts in told if facts.get("state") == "running" and facts["left"]}
        assert lefts[4] > 0.5 * drawn.seconds[0]  # no step, but a round, is still to come

    in_new_folder(check)


def test_the_step_that_looks_best_is_had_without_training() -> None:
    def check(folder: Path) -> None:
        straight, _ = train(lesson(steps=2))
        for file in folder.rglob("zorp*"):
            file.unlink()
        train(lesson(steps=4, samples=samples()))
        (early, losses), made = steps_made(lambda: train(lesson(steps=2)))
        assert made == [] and same(early, straight) and len(losses) == 2
        (more, _), made = steps_made(lambda: train(lesson(steps=6, samples=samples(3))))
        assert made == [5, 6] and more.about.loss["steps"] == 6

    in_new_folder(check)


def test_samples_are_files_by_step_and_prompt() -> None:
    import folder_paths

    def check(folder: Path) -> None:
        drawn = samples()
        train(lesson(steps=2, samples=drawn))
        names = [Path(folder_paths.get_output_directory(), one["subfolder"], one["filename"]) for one in drawn.write()]
        assert [path.name for path in names] == ["step_00002_prompt_1.png", "step_00002_prompt_2.png"]
        assert all(path.is_file() for path in names)

    in_new_folder(check)


def test_a_graph_gets_the_batch_and_a_prompt_without_the_concept_is_told_at_once() -> None:
    shelf()

    def check(folder: Path) -> None:
        graph = learning(sample_every=1, sample_prompts="a zorp fish in snow\na {concept}")
        graph["pictures"] = {"class_type": "LabKeep", "inputs": {"name": "samples", "value": ["train", 5]}}
        queue = Queue()
        red = queue.run(changed(graph, {"train.sample_prompts": "a fish"}))
        assert isinstance(red, Red) and red.node == "train" and is_one_sentence(red)
        assert not list(folder.rglob("zorp*"))
        assert queue.run(graph) is None and SEEN["samples"][-1].shape[0] == 2
        count = len(SEEN["samples"])
        assert queue.run(changed(graph, {"train.sample_every": 0})) is None
        assert len(SEEN["samples"]) == count  # nothing came, so the node behind did not run

    in_new_folder(check)


def test_a_training_starts_from_a_finished_concept() -> None:
    def check(folder: Path) -> None:
        start = replace(concept(), noun="fish")
        (near, _), made = steps_made(lambda: train(lesson(steps=1, start=start)))
        assert made == [1] and not same(near, start)
        settings = replace(lesson(steps=1).settings, learning_rate=1e-9)
        (nearer, _), made = steps_made(lambda: train(replace(lesson(steps=1, start=start), settings=settings)))
        assert made == [1] and same(nearer, start, 2e-3)  # the file holds fp16
        (plain, _), made = steps_made(lambda: train(lesson(steps=1)))
        assert made == [1] and not same(plain, near, 1e-2)

    in_new_folder(check)
