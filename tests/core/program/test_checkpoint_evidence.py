"""The command `checkpoint-evidence` from end to end against a pretend ComfyUI: graphs, resumption, report, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dci_core.program.main import main
from dci_core.studies.dci.plot_style import DIALS
from dci_core.studies.served import client
from dci_core.studies.served.datasets import read_subjects
from dci_core.studies.served.study import SETTINGS

from ..encoder_folders import clip_folder, dino_folder
from ..pretend_server import Pretend, pretend_server
from ..program_calls import sentence

DREAMBOOTH = """Classes

subject_name,class
sofa2,sofa
dog,dog
fish,fish

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the snow'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} on the sofa'.format(unique_token, class_token),
'a {0} {1} in a hat'.format(unique_token, class_token)
]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoders, and both published sets in the form that they are downloaded in; the fish was not downloaded."""
    root = tmp_path_factory.mktemp("sets")
    clip_folder(root / "clip")
    dino_folder(root / "dino")
    for seed, folder in enumerate(("dreambooth/dataset/sofa2", "dreambooth/dataset/dog", "cc/images/a_dog")):
        draw(root / folder, seed)
    (root / "dreambooth/dataset/prompts_and_classes.txt").write_text(DREAMBOOTH, encoding="utf-8")
    entry = {"class_prompt": "toy dog", "instance_data_dir": "./images/a_dog", "prompt_filename": "prompts/dog.txt"}
    (root / "cc/dataset.json").write_text(json.dumps([entry]), encoding="utf-8")
    (root / "cc/prompts").mkdir()
    (root / "cc/prompts/dog.txt").write_text("photo of a {}.\n{} in the snow\n\n", encoding="utf-8")
    return root


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    monkeypatch.setattr(client, "PAUSE_SECONDS", 0.0)
    with pretend_server() as running:
        yield running


def draw(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for name in ("1.png", "2.png"):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / name)


def words(place: Path, server: Pretend, out: Path, *more: str) -> list[str]:
    return [
        *("checkpoint-evidence", "--server", server.address, "--checkpoint", "sd.safetensors", "--steps", "100"),
        *("--data", str(place / "dreambooth"), "--clip", str(place / "clip"), "--dino", str(place / "dino")),
        *("--out", str(out), "--device", "cpu", *more),
    ]


def test_both_published_sets_are_read(place: Path) -> None:
    sofa, dog = read_subjects(place / "dreambooth")
    assert (sofa.name, sofa.noun, len(sofa.pictures)) == ("sofa2", "sofa", 2)
    assert sofa.prompts == ("a {concept} in the snow", "a red {concept}")
    assert dog.prompts == ("a {concept} on the sofa", "a {concept} in a hat")  # a living thing's own
    (custom,) = read_subjects(place / "cc")
    assert (custom.name, custom.noun) == ("a_dog", "toy dog")
    assert custom.prompts == ("photo of a {concept}.", "{concept} in the snow")


def test_a_study_is_carried_out_and_told(
    place: Path, server: Pretend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(place, server, tmp_path, "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["subjects"] == ["sofa2", "dog"] and set(summary["hypervolume"]) == set(DIALS)
    assert summary["likeness"] == "dino" and summary["device"]["most_bytes"] <= 8 * 2**30
    assert set(summary["settings"]) == {one.name for one in SETTINGS}
    assert server.uploads == {"ico_study/sofa2": 2, "ico_study/dog": 2}
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 2 * len(SETTINGS) * 2
    report = (tmp_path / "report.md").read_text()
    assert "## Every setting" in report and "swap 0.05" in report and "pretend" in report
    before = (tmp_path / "summary.json").read_bytes()
    queued = len(server.graphs)
    assert main(words(place, server, tmp_path)) == 0  # nothing is left to draw
    assert len(server.graphs) == queued and (tmp_path / "summary.json").read_bytes() == before


def test_every_dial_changes_one_thing_in_the_graph(place: Path, server: Pretend, tmp_path: Path) -> None:
    assert main(words(place, server, tmp_path, "--subjects", "1", "--prompts", "1")) == 0
    trained, drawn = server.graphs[:5], server.graphs[5:]
    assert [node(graph, "ICOTrainConcept")["steps"] for graph in trained] == [25, 44, 63, 81, 100]  # goes on, rising
    assert node(trained[0], "ICOTrainConcept")["learning_rate"] == 0.5  # the node's own default
    found = dict(zip([one.name for one in SETTINGS], drawn, strict=True))
    assert node(found["window 0.3"], "DCIDualBranchSampler")["window"] == 0.3
    assert node(found["window 0.3"], "DCIDualBranchSampler")["guidance"] == "shared"
    assert node(found["window 0.3"], "DCIPromptPair")["auxiliary_noun"] == "cat"
    assert node(found["concept strength 0.5"], "ICOLoadConcept")["strength"] == 0.5
    assert node(found["CFG x 2"], "KSampler")["cfg"] == 12.0
    assert texts(found["prompt weight 0.7"]) == {"", "a (mysofa sofa:0.7) in the snow"}
    assert texts(found["swap 0.2"]) == {"", "a mysofa sofa in the snow", "a cat in the snow"}
    ends = [one["inputs"] for one in found["swap 0.2"].values() if one["class_type"] == "ConditioningSetTimestepRange"]
    assert [(one["start"], one["end"]) for one in ends] == [(0.0, 0.2), (0.2, 1.0)]
    assert node(found["25% of the steps"], "ICOLoadConcept")["concept_name"] == "ico_study\\sofa2-25.safetensors"
    assert {node(graph, "KSampler", "DCIDualBranchSampler")["seed"] for graph in drawn} == {0}


@pytest.mark.parametrize(("asked", "used"), [("cat", {"cat"}), ("dog", {"cat"}), ("star", {"star"}), ("auto", {"cat"})])
def test_the_auxiliary_noun_is_never_the_subjects_own(
    asked: str, used: set[str], place: Path, server: Pretend, tmp_path: Path
) -> None:
    data = str(tmp_path / "one")
    shutil.copytree(place / "dreambooth" / "dataset", data, ignore=shutil.ignore_patterns("sofa2"))  # the dog alone
    more = ("--data", data, "--prompts", "1", "--auxiliary", asked)
    assert main(words(place, server, tmp_path / "out", *more)) == 0
    nodes = [node for graph in server.graphs for node in graph.values() if node["class_type"] == "DCIPromptPair"]
    assert {node["inputs"]["auxiliary_noun"] for node in nodes} == used


def test_a_study_that_was_stopped_goes_on(
    place: Path, server: Pretend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fails_at = 8  # the fourth setting of the first subject
    asked = words(place, server, tmp_path, "--subjects", "1")
    assert main(asked) == 2
    assert "the server stopped at ICOTrainConcept: out of memory" in capsys.readouterr().err
    server.fails_at = None
    assert main(asked) == 0
    drawings = [graph for graph in server.graphs if any(n["class_type"] == "SaveImage" for n in graph.values())]
    assert len(drawings) == len(SETTINGS) + 1  # the one that failed, again


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--checkpoint", "other.safetensors"), 'the server lists no checkpoint "other.safetensors"'),
        (("--server", "http://127.0.0.1:9"), "nothing answers at http://127.0.0.1:9"),
        (("--prompts", "3"), "3 prompts were asked for; 1 to 2 were expected"),
        (("--steps", "3"), "--steps is 3; 4 or more is expected"),
    ],
)
def test_bad_input_gets_one_sentence(
    more: tuple[str, ...], told: str, place: Path, server: Pretend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(place, server, tmp_path, *more)) == 2
    assert told in sentence(capsys) and list(tmp_path.iterdir()) == [] and server.graphs == []


def test_a_folder_of_neither_set_gets_one_sentence(
    place: Path, server: Pretend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(place, server, tmp_path, "--data", str(place / "clip"))) == 2
    assert "holds neither prompts_and_classes.txt (DreamBooth) nor dataset.json (CustomConcept101)" in sentence(capsys)


def node(graph: dict[str, dict[str, dict[str, object]]], *kinds: str) -> dict[str, object]:
    """Inputs of the only node of these kinds."""
    (found,) = (one["inputs"] for one in graph.values() if one["class_type"] in kinds)
    return found


def texts(graph: dict[str, dict[str, dict[str, object]]]) -> set[object]:
    """What the stock encode nodes read."""
    return {one["inputs"]["text"] for one in graph.values() if one["class_type"] == "CLIPTextEncode"}
