"""Prompts that a concept will be drawn with: what they lack is told before the first step."""

from __future__ import annotations

from pathlib import Path

from check_graph import give, is_one_sentence, learning, shelf, without_training
from check_tiny import NOUN
from check_training import in_new_folder
from graphs import SEEN, Queue, Red, changed, node


def test_words_that_the_tiny_world_has_never_seen_are_told_on_both_nodes() -> None:
    shelf()

    def check(folder: Path) -> None:
        pair = node("DCIPromptPair", clip=["train", 1], concept=["train", 2], auxiliary_noun="cat")
        graph = {**learning(), "pair": pair}
        graph["kept"] = {"class_type": "LabKeep", "inputs": {"name": "plan", "value": ["pair", 1]}}
        for prompt, words in ((f"a zorp {NOUN} in a disco", '"disco"'), (f"a ZORP {NOUN} in snow", None)):
            queue = Queue()
            assert queue.run(changed(graph, {"pair.prompt": prompt})) is None
            outputs = queue.executor.history_result["outputs"]
            for name in ("train", "pair"):
                told = [line for line in outputs[name]["ico_dci"][0]["warnings"] if "never seen" in line]
                assert len(told) == (words is not None) and all(f"seen {words};" in line for line in told), told

    in_new_folder(check)


def test_the_prompts_of_connected_pairs_are_checked_before_the_first_step() -> None:
    import nodes
    from comfy_extras.nodes_primitive import String

    shelf()
    nodes.NODE_CLASS_MAPPINGS["PrimitiveString"] = String

    def check(folder: Path) -> None:
        queue, pair = Queue(), node("DCIPromptPair", clip=["train", 1], concept=["train", 2], auxiliary_noun="cat")
        graph = {**learning(), "pair": pair, "kept": {**learning()["kept"]}}
        graph["kept"] = {"class_type": "LabKeep", "inputs": {"name": "plan", "value": ["pair", 1]}}
        graph["text"] = {"class_type": "PrimitiveString", "inputs": {"value": "a mouse"}}
        graph["load"] = give("concept")
        graph["other"] = node("DCIPromptPair", clip=["train", 1], concept=["load", 0], prompt="a mouse")
        for changes, words in (
            ({"pair.prompt": f"a {NOUN} in snow"}, "node pair"),
            ({"pair.prompt": ["text", 0]}, "a mouse"),
            ({"pair.prompt": f"a zorp {NOUN}", "pair.auxiliary_noun": NOUN}, "own class"),
            ({"pair.prompt": f"a zorp {NOUN}", "pair.auxiliary_prompt": "a dog"}, "'cat' is not in the prompt"),
        ):
            red = without_training(lambda changes=changes: queue.run(changed(graph, changes)))
            assert isinstance(red, Red) and red.node == "train" and words in red.sentence, red
            assert "DCI Prompt Pair, node pair" in red.sentence and is_one_sentence(red), red
        assert not list(folder.rglob("zorp*"))
        good = {**changed(graph, {"pair.prompt": f"a ZORP {NOUN}", "train.prompt": "a {concept} on a boat"})}
        assert queue.run(good) is None and SEEN["plan"]
        several = queue.run(changed(graph, {"pair.prompt": "a {concept:a} by a {concept:b}"}))
        assert isinstance(several, Red) and several.node == "pair" and "second_concept" in several.sentence, several

    in_new_folder(check)
