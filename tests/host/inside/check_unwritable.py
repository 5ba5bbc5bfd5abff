"""Where nothing can be written a training loses nothing, and says on the node what is not kept and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from check_samples import samples
from check_training import in_new_folder, lesson, same, train
from lab import PACK


def test_a_concept_that_cannot_be_kept_is_given_all_the_same() -> None:
    training, error = PACK["nodes.host.ico.training"], PACK["dci_core.errors"].NotSaved

    def full(*given: Any) -> None:
        raise error("the disk is full", "room was expected", "make room")

    def check(folder: Path) -> None:
        kept = training.save_concept, training.save_state
        training.save_concept = training.save_state = full
        try:
            with PACK["nodes.host.page.live"].live_training("zorp fish") as live:
                concept, losses = train(lesson(steps=3))
        finally:
            training.save_concept, training.save_state = kept
        told = [line for line in live.notes if "the disk is full" in line]  # on the node, not in the log alone
        assert len(told) == 2 and "without a new safety copy" in told[0] and "save it with" in told[1], live.notes
        assert len(losses) == 3 and concept.noun == "fish" and not list(folder.rglob("*.safetensors"))
        again, _ = train(lesson(steps=3))  # nothing half done is taken for the concept
        assert same(concept, again) and list(folder.rglob("zorp*.safetensors"))

    in_new_folder(check)


def test_a_folder_that_takes_no_files_is_refused_before_the_first_step() -> None:
    training, error = PACK["nodes.host.ico.training"], PACK["dci_core.errors"].NotSaved

    def check(folder: Path) -> None:
        (folder / "trained").write_text("in the way", encoding="utf-8")
        kept, training.run_training = training.run_training, None
        try:
            with PACK["nodes.host.page.live"].live_training("zorp fish") as live:
                train(lesson(steps=3))
        except error as refusal:
            assert live.notes == [str(refusal)]  # on the node: newer pages hide what an error says
            assert "takes no files" in str(refusal) and str(folder) in str(refusal), refusal
        else:
            raise AssertionError("it began")
        finally:
            training.run_training = kept

    in_new_folder(check)


def test_samples_that_cannot_be_written_are_told_with_their_place() -> None:
    import folder_paths

    def check(folder: Path) -> None:
        output = Path(folder_paths.get_output_directory())
        (output / PACK["nodes.host.ico.samples"].FOLDER).write_text("in the way", encoding="utf-8")
        with PACK["nodes.host.page.live"].live_training("zorp fish") as live:
            drawn = samples()
            _, losses = train(lesson(steps=2, samples=drawn))
        assert len(losses) == 2 and len(drawn.pictures) == 2
        assert any("not among the files" in line and str(output) in line for line in live.notes), live.notes

    in_new_folder(check)
