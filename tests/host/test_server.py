"""The pack in a real server, as the page talks to it: what it lists, what it serves, and its own world's workflows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image

from dci_core.dynaip.training.pairs import to_pixels
from dci_core.studies.dci.judge_scores import JudgeScores, Numbers, judge_pictures
from dci_core.studies.dynaip.pairs import cut_halves
from dci_core.studies.gates.concepts import LEAST_LIKENESS
from dci_core.studies.gates.trial import Ask
from dci_core.tiny.model import WEIGHTS

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "inside"))
from flows import as_prompt, read_workflows, server_nodes, troubles_of
from hosts import ROOT, Host, find_hosts
from serving import Server, serving

sys.path.pop(0)
sys.path.pop(0)

SHOWN = (5, 17)  # what the ninth workflow reads on the left and on the right
SMALL_FLUX = "workflows/10 small flow world with ICO and DCI"
FIRST = "workflows/01 first steps on the tiny world"
ONE_SUBJECT, TWO_SUBJECTS = "workflows/08 read a subject with DynaIP", "workflows/09 two subjects with DynaIP"

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.fixture(scope="module", params=find_hosts(), ids=lambda host: host.name)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    host: Host = request.param
    if reason := host.absence():
        pytest.skip(reason)
    with serving(host, tmp_path_factory.mktemp("served")) as running:
        yield running


def prompt_of(name: str, server: Server) -> dict[str, Any]:
    """A workflow as the page would send it."""
    return as_prompt(read_workflows(ROOT)[name], server.ask("/object_info"))


def drawn(history: dict[str, Any], server: Server) -> dict[str, list[Path]]:
    """Saved pictures of a finished run by the start of their names."""
    assert history["status"]["status_str"] == "success", history["status"]
    found: dict[str, list[Path]] = {}
    for output in history["outputs"].values():
        for image in output.get("images", ()):
            if image["type"] == "output":
                path = server.base / "output" / image["subfolder"] / image["filename"]
                found.setdefault(image["filename"].rpartition("_0")[0], []).append(path)
    return found


def pixels(paths: list[Path]) -> torch.Tensor:
    """[b 3 h w] in 0..1 of saved pictures."""
    return to_pixels([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def judged(pictures: torch.Tensor, concept: int, place: str) -> Numbers:
    """The small world's judge on pictures of one of its unseen things in a place."""
    return judge_pictures(JudgeScores(WEIGHTS), concept, Ask("", {"place": place}, False), pictures)


def test_every_workflow_opens_as_it_was_saved(server: Server) -> None:
    known = server.ask("/object_info")
    found = {
        f"{name}: {node['type']} {node['id']}": troubles
        for name, flow in read_workflows(ROOT).items()
        for node in server_nodes(flow)
        if (troubles := troubles_of(node, known.get(node["type"])))
    }
    assert found == {}


def test_the_template_browser_finds_workflows_and_thumbnails(server: Server) -> None:
    names = server.ask("/workflow_templates")["ico-dci"]
    assert sorted(names) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    for name in names:
        with urlopen(f"{server.address}/api/workflow_templates/ico-dci/{quote(name)}.jpg", timeout=60) as answer:
            assert answer.read(3) == b"\xff\xd8\xff"


def test_every_node_has_its_help_page(server: Server) -> None:
    mine = [name for name, node in server.ask("/object_info").items() if node["category"].startswith("ICO + DCI/")]
    assert len(mine) >= 10
    for name in mine:
        with urlopen(f"{server.address}/extensions/ico-dci/docs/{name}.md", timeout=60) as answer:
            assert answer.read().decode().startswith("# ")


def good(found: Numbers) -> list[bool]:
    """Which pictures show both the thing and the place."""
    pairs = zip(found["likeness"], found["has_all"], strict=True)
    return [likeness >= LEAST_LIKENESS and has_all == 1 for likeness, has_all in pairs]


def test_the_first_workflow_shows_dci_winning_and_does_not_train_twice(server: Server) -> None:
    prompt = prompt_of(FIRST, server)
    first = drawn(server.run(prompt), server)
    assert {name: len(paths) for name, paths in first.items()} == {"tiny_with_dci": 4, "tiny_without_dci": 4}
    dci, plain = (good(judged(pixels(first[f"tiny_{way}_dci"]), 0, "clouds")) for way in ("with", "without"))
    assert sum(ours and not theirs for ours, theirs in zip(dci, plain, strict=True)) >= 3, (dci, plain)
    for paths in first.values():
        for path in paths:
            with Image.open(path) as picture:
                assert picture.size == (128, 128)
                assert max(high - low for low, high in picture.convert("RGB").getextrema()) > 60
    kept = {path: path.stat().st_mtime_ns for path in (server.base / "models").rglob("*.safetensors")}
    assert len(kept) == 1
    pair = next(node for node in prompt.values() if node["class_type"] == "DCIPromptPair")
    pair["inputs"]["prompt"] = "a myfish fish in the city"
    assert len(drawn(server.run(prompt), server)["tiny_with_dci"]) == 4
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_the_eighth_workflow_draws_the_subject_that_it_reads(server: Server) -> None:
    found = drawn(server.run(prompt_of(ONE_SUBJECT, server)), server)
    assert {name: len(paths) for name, paths in found.items()} == {"tiny_with_dynaip": 4, "tiny_without_dynaip": 4}
    read, plain = (judged(pixels(found[name]), 2, "snow") for name in ("tiny_with_dynaip", "tiny_without_dynaip"))
    assert fmean(read["likeness"]) > fmean(plain["likeness"]) + 0.2
    assert fmean(read["following"]) >= 0.75 and fmean(read["has_noun"]) >= 0.75


def test_the_tenth_workflow_draws_the_concept_in_the_scene_that_plain_sampling_misses(server: Server) -> None:
    found = drawn(server.run(prompt_of(SMALL_FLUX, server)), server)
    assert {name: len(paths) for name, paths in found.items()} == {"flow_with_dci": 4, "flow_without_dci": 4}
    with_dci, plain = (judged(pixels(found[name]), 7, "snow") for name in ("flow_with_dci", "flow_without_dci"))
    assert fmean(with_dci["following"]) >= fmean(plain["following"]) + 0.5
    assert fmean(with_dci["likeness"]) >= 0.8


def test_the_ninth_workflow_reads_each_subject_in_its_half(server: Server) -> None:
    found = drawn(server.run(prompt_of(TWO_SUBJECTS, server)), server)
    assert {name: len(paths) for name, paths in found.items()} == {"tiny_two_subjects": 4}
    judge_scores = JudgeScores(WEIGHTS)
    with torch.no_grad():
        seen = [judge_scores.judge(half)[1] for half in cut_halves(pixels(found["tiny_two_subjects"]))]
    own, other = (judge_scores.scale(concept) for concept in SHOWN)
    nearer = (own.of(seen[0]) > other.of(seen[0]), other.of(seen[1]) > own.of(seen[1]))
    assert float(torch.cat(nearer).float().mean()) >= 0.75
