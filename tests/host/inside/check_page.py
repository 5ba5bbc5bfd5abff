"""What nodes say on themselves, and what the page may ask: facts that a message can carry, read-only routes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import torch
from check_tiny import concept
from lab import PACK


def module(name: str) -> Any:
    """A module of the loaded pack."""
    import importlib

    return importlib.import_module(f"{PACK['nodes'].__name__}.{name}")


def told(name: str, **values: Any) -> dict[str, Any]:
    """What a node says; it must survive a message to the page."""
    import nodes

    (facts,) = nodes.NODE_CLASS_MAPPINGS[name].execute(**values).ui["ico_dci"]
    return json.loads(json.dumps(facts))


def test_the_layer_mask_counts_layers_and_warns_of_a_black_region() -> None:
    plain = told("DBIMLayerMask", preset="coarse", text="")
    assert plain["warnings"] == [] and "tiny world: 7 of 10 layers" in plain["lines"]
    black = told("DBIMLayerMask", preset="all", text="", region=torch.zeros(1, 8, 8))
    assert "black" in black["warnings"][0]
    assert "names no" in told("DBIMLayerMask", preset="custom", text="in99")["warnings"][0]


def test_the_pair_marks_what_it_found() -> None:
    node_ui = module("node_ui")
    texts = ("a MyFish  fish by a mycar car", "a cat by a star")

    def marked(*words: tuple[str, str]) -> list[list[str]]:
        facts = node_ui.paired(texts, words, "")["ico_dci"][0]
        return [[one["text"][a:b] for a, b in one["marks"]] for one in facts["prompts"]]

    assert marked(("myfish fish", "cat")) == [["MyFish  fish"], ["cat"]]
    assert marked(("mycar car", "star"), ("myfish fish", "cat")) == [["MyFish  fish", "mycar car"], ["cat", "star"]]


def test_a_run_says_steps_cost_and_warnings() -> None:
    node_ui = module("node_ui")
    settings = SimpleNamespace(window=0.3, strength=1.0, guidance="shared")
    record = SimpleNamespace(steps=20, acted=6, rows=46, plain_rows=40, guests=[], warnings=["it overshoots"])
    facts = node_ui.ran(record, settings)["ico_dci"][0]
    assert facts["warnings"] == ["it overshoots"]
    assert "6 of 20 steps" in facts["lines"][0] and "1.15 times" in facts["lines"][1]
    record.steps = 0
    assert "off" in node_ui.ran(record, settings)["ico_dci"][0]["lines"][0]


def test_a_curve_is_thinned_and_keeps_its_last_step() -> None:
    points = module("node_ui").thinned([float(i) for i in range(1001)])
    assert len(points) <= 200 and points[-1][0] == 1001 and points[0][1] < points[-1][1]


def test_a_node_is_found_by_the_mark_that_its_workflow_gives_it() -> None:
    events = module("host.page.events")

    def marked(number: int, mark: str) -> dict[str, Any]:
        return {"id": number, "type": "ICOTrainConcept", "properties": {events.MARK: mark}}

    inner = {"id": "7c0d", "nodes": [marked(2, "inside")]}
    nodes = [marked(2, "outside"), {"id": 3, "type": "7c0d"}, {"id": 4, "type": "Note"}]
    flow = {"id": "a", "nodes": nodes, "definitions": {"subgraphs": [inner]}}
    found = {place: events.mark_of(flow, place) for place in ("2", "3:2", "3", "4", "5", "4:2", "")}
    assert found == {"2": "outside", "3:2": "inside", "3": "", "4": "", "5": "", "4:2": "", "": ""}
    running = events.running
    try:
        for odd in (flow, 3, None, {"nodes": [3]}, {"nodes": 3}):
            events.running = lambda odd=odd: ("", {}, {"extra_pnginfo": {"workflow": odd}})
            assert events.place_in_work() == {"node": "", "mark": ""}
    finally:
        events.running = running


def test_what_nodes_said_last_is_kept_by_their_marks_for_pages_that_are_opened_later() -> None:
    import nodes

    events, sayings = module("host.page.events"), module("host.page.sayings")

    def placed(mark: str) -> dict[str, str]:
        return {"node": "3", "mark": mark}

    def kept() -> list[tuple[str, list[str]]]:
        return [(one["mark"], one["output"]["ico_dci"][0]["lines"]) for one in sayings.SAID.values()]

    before, place_in_work = dict(sayings.SAID), events.place_in_work
    sayings.SAID.clear()
    try:
        events.place_in_work = lambda: placed("mask")
        nodes.NODE_CLASS_MAPPINGS["DBIMLayerMask"].execute(preset="coarse", text="")
        later = sayings.teller(lambda run: module("node_ui").said(run))
        events.place_in_work = lambda: placed("")  # a prompt that comes from no page
        nodes.NODE_CLASS_MAPPINGS["DBIMLayerMask"].execute(preset="all", text="")
        (alone,) = kept()
        assert alone[0] == "mask" and "tiny world: 7 of 10 layers" in alone[1]
        events.place_in_work = lambda: placed("sampler")
        later("it acted")
        assert kept() == [("mask", ["it acted"])]
        for count in range(sayings.MOST_NODES):
            sayings.keep(placed(str(count)), module("node_ui").said("more"))
        assert len(kept()) == sayings.MOST_NODES and "mask" not in sayings.SAID
    finally:
        events.place_in_work = place_in_work
        sayings.SAID.clear()
        sayings.SAID.update(before)


def test_layer_texts_are_read_by_the_one_parser() -> None:
    routes = module("host.page.routes")
    assert routes.read_layers("tiny", "mid:0.5")["shares"].count(0.5) == 1
    assert "expected" in routes.read_layers("tiny", "middling")["error"]
    assert "one of" in routes.read_layers("nothing", "all")["error"]
    counts = {"tiny": 10, "tiny_flow": 6, "sd15": 16, "sdxl": 70, "anima": 28, "flux": 57, "flux2_klein_4b": 25}
    counts |= {"z_image": 30, "qwen_image": 60, "krea2": 28, "sd35_medium": 24, "sd35_large": 38}
    families = module("host.page.routes").FAMILIES
    rows = {name: routes.row_of(families[name], title) for name, title in routes.TITLES.items()}
    assert {name: len(row["layers"]) for name, row in rows.items()} == counts
    for name, row in rows.items():  # the page writes these names back into the text
        for layer in row["layers"]:
            shares = routes.read_layers(name, layer["name"])["shares"]
            assert sum(shares) == 1, (name, layer["name"])


def test_a_concept_is_listed_by_its_header_and_a_foreign_file_is_not() -> None:
    import tempfile
    from pathlib import Path

    listing = PACK["dci_core.concept.listing"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        PACK["dci_core.concept.file"].save_concept(concept(), path)
        facts = listing.facts_of(path)
        assert facts["trigger"] == concept().trigger and facts["bytes"] == path.stat().st_size
        assert not facts["picture"] and listing.picture_of(path) is None
        path.with_suffix(".png").write_bytes(b"\x89PNG")
        assert listing.facts_of(path)["picture"] and listing.picture_of(path) == ("image/png", b"\x89PNG")
        for junk in (b"", b"\xff" * 64, (10**12).to_bytes(8, "little") + b"{}"):
            path.write_bytes(junk)
            assert listing.facts_of(path) is None


def test_a_live_training_ends_as_it_ended() -> None:
    live = module("host.page.live")
    with live.live_training("a"):
        live.CURRENT.get().begin([0.5, 0.4], 10)
    (kept,) = [one.facts for one in live.TRAININGS.values()]
    assert kept["state"] == "done" and kept["points"] == [[1, 0.5], [2, 0.4]]
    try:
        with live.live_training("a"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [one.facts["state"] for one in live.TRAININGS.values()] == ["stopped"]


def test_maps_stand_in_a_sheet_by_layer_and_step() -> None:
    pictures = module("host.page.pictures")
    layer = PACK["dci_core.attention.layers"].LayerId("middle", 0)
    weights = {(2.0, layer): torch.zeros(1, 4, 4), (1.0, layer): torch.ones(1, 4, 4)}
    shown = pictures.maps_for_page(weights, torch.randn(1, 4, 8, 8), None)
    assert shown["rows"] == ["all layers", "mid"] and shown["sigmas"] == [2.0, 1.0] and shown["cell"] == [4, 4]
    import folder_paths
    from PIL import Image

    name = shown["sheets"][0]["filename"]
    with Image.open(f"{folder_paths.get_temp_directory()}/{name}") as sheet:
        assert sheet.size == (8, 8) and sheet.getpixel((0, 0)) == 0 and sheet.getpixel((7, 7)) == 255
    assert pictures.maps_for_page({}, torch.randn(1, 4, 8, 8), None)["rows"] == []
