"""The page in a real browser: workflows open, panels write widgets, names come in the user's language."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "inside"))
from browser import Page
from flows import server_nodes
from hosts import ROOT
from pages import ADD, ASIDE, OURS, PANEL, Site, shown, skip_without_panels, value

sys.path.pop(0)
sys.path.pop(0)

TINY_LAYERS = 10
LEAST_ZOOM = 0.6  # of a workflow that is readable as it opens

pytestmark = [pytest.mark.host, pytest.mark.slow]


def test_the_first_workflow_opens_without_errors_or_missing_nodes(page: Page) -> None:
    path = next((ROOT / "workflows").glob("01 *.json"))
    flow = json.loads(path.read_text(encoding="utf-8"))
    page.run(f"await app.loadGraphData({json.dumps(flow)}, true, true, 'first')")
    page.wait(f"app.graph._nodes.length === {len(flow['nodes'])}")
    page.run("await new Promise((done) => setTimeout(done, 1500))")
    assert page.run("return app.graph._nodes.filter((node) => node.has_errors).map((node) => node.type)") == []
    ours = [node["type"] for node in server_nodes(flow) if node["type"].startswith(("ICO", "DCI", "DBIM"))]
    panels = page.run("return app.graph._nodes.filter((node) => node.icoDci).map((node) => node.type)")
    assert sorted(panels) == sorted(ours)
    assert page.troubles(OURS) == []


def test_the_strip_of_layers_and_its_text_follow_each_other(page: Page, site: Site) -> None:
    page = shown(page, "DBIMLayerMask")
    page.wait(f"{PANEL}.querySelector('canvas')?.width > 100")
    page.wait(f"{PANEL}.querySelector('.quiet').textContent.startsWith('10 of 10')")
    page.click(f"{PANEL}.querySelector('canvas')", across=0.5 / TINY_LAYERS, down=0.5)
    page.wait("app.graph._nodes[0].widgets.find((widget) => widget.name === 'preset').value === 'custom'")
    read = site.server.ask(f"/ico_dci/layers?family=tiny&text={value(page, 'text').replace(' ', '%20')}")
    page.point(*ASIDE)  # off the strip, whose caption then counts layers again
    changed = [share for share in read["shares"] if share != 1]
    assert len(changed) == 1 and 0.3 < changed[0] < 0.7
    page.run("const w = app.graph._nodes[0].widgets.find((w) => w.name === 'text'); w.value = 'mid'; w.callback('mid')")
    page.wait(f"{PANEL}.querySelector('.quiet').textContent.startsWith('1 of 10')")
    assert page.troubles(OURS) == []


OVERLAPS = """const boxes = {}; const found = [];
const shared = (a, long, b, other) => Math.min(a + long, b + other) - Math.max(a, b);  // px
for (const [name, x, y, w, h] of boxes)
  for (const [other, x2, y2, w2, h2] of boxes)
    if (name < other && shared(x, w, x2, w2) > 1 && shared(y, h, y2, h2) > 1) found.push(`${{name}} and ${{other}}`);
return found;"""
BOXES = {  # [name, x, y, width, height] of every node as a renderer draws it
    False: """app.graph._nodes.map((node) => {
      const title = LiteGraph.NODE_TITLE_HEIGHT;
      return [`${node.type} ${node.id}`, node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title];
    })""",
    True: """[...document.querySelectorAll('[data-node-id]')].map((element) => {
      const box = element.getBoundingClientRect(), number = element.dataset.nodeId;
      return [`${app.graph.getNodeById(number)?.type} ${number}`, box.x, box.y, box.width, box.height];
    })""",
}

TRAINING = """for (const node of app.graph._nodes) for (const part of node.icoDci?.parts ?? [])
  part.training?.({ state: 'running', step: 2, steps: 9, left: 5, points: [[1, 0.2], [2, 0.1]], previews: [] });
"""  # what a training node shows as soon as it runs


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.name.split()[0])
def test_a_workflow_opens_readable_and_no_node_covers_another(page: Page, path: Path) -> None:
    flow = json.loads(path.read_text(encoding="utf-8"))
    page.run(f"await app.loadGraphData({json.dumps(flow)}, true, true, 'opened', {{ openSource: 'template' }})")
    page.wait(f"app.graph._nodes.length === {len(flow['nodes'])}")
    page.run(f"{TRAINING} await new Promise((done) => setTimeout(done, 2000))")  # panels have taken their height
    assert page.run("return app.canvas.ds.scale") >= LEAST_ZOOM
    is_vue = page.run("return !!LiteGraph.vueNodesMode")
    if is_vue and not page.run("return !!document.querySelector('.ico-dci')"):
        pytest.skip("this front end's Nodes 2.0 is a first try that gives nodes sizes of its own")
    boxes = page.run(f"return {BOXES[is_vue]}")
    assert len(boxes) == len(flow["nodes"]) or is_vue  # Nodes 2.0 draws those that are in sight
    assert boxes
    assert page.run(OVERLAPS.format(json.dumps(boxes))) == []


def test_a_concept_that_the_prompt_names_by_its_place_is_not_offered_again(page: Page) -> None:
    flow = json.loads(next((ROOT / "workflows").glob("14 *.json")).read_text(encoding="utf-8"))
    page.run(f"await app.loadGraphData({json.dumps(flow)}, true, true, 'two')")
    page.wait("!!app.graph._nodes.find((node) => node.type === 'DCIPromptPair')?.icoDci")
    page.run("await new Promise((done) => setTimeout(done, 1500))")
    skip_without_panels(page)
    offered = (
        "[...document.querySelectorAll('.ico-dci button')].some((button) => button.textContent === '+ myfish fish')"
    )
    assert not page.run(f"return {offered}")
    page.run(
        "const node = app.graph._nodes.find((node) => node.type === 'DCIPromptPair');"
        "const box = node.widgets.find((one) => one.name === 'prompt'); box.value = 'a cat'; box.callback?.('a cat')"
    )
    page.wait(offered)


def test_a_training_whose_server_has_gone_is_told_as_stopped(page: Page) -> None:
    page = shown(page, "ICOTrainConcept")
    page.run(TRAINING)
    page.wait(f"{PANEL}.textContent.includes('5 s left')")
    page.run("app.api.dispatchEvent(new CustomEvent('reconnected'))")
    page.wait(f"{PANEL}.textContent.includes('step 2 of 9') && {PANEL}.textContent.includes('stopped')")
    assert page.troubles(OURS) == []


def test_advanced_inputs_fold_in_the_classic_renderer_and_are_left_to_nodes2(page: Page) -> None:
    page.point(*ASIDE)
    page.run(ADD.format("DCIDualBranchSampler"))
    count = "app.graph._nodes[0].widgets.filter((widget) => widget.hidden).length"
    button = "app.graph._nodes[0].widgets.find((widget) => widget.name === 'ico_dci_more')"
    if not page.run(f"return !!{button}"):
        pytest.skip("this host tells the page of no advanced inputs")
    if page.run("return !!LiteGraph.vueNodesMode"):
        assert page.run(f"return {count}") == 0
        return
    hidden, tall = page.run(f"return {count}"), page.run("return app.graph._nodes[0].size[1]")
    assert hidden >= 3
    page.run(f"{button}.callback()")
    assert page.run(f"return {count}") == 0 and page.run("return app.graph._nodes[0].size[1]") > tall + 15 * hidden
    page.run(f"{button}.callback()")
    assert page.run(f"return {count}") == hidden and page.run("return app.graph._nodes[0].size[1]") == tall


def test_a_trigger_completes_in_any_prompt(page: Page) -> None:
    page.point(*ASIDE)
    page.run(ADD.format("CLIPTextEncode"))
    page.run("app.graph._nodes[0].widgets[0].value = ''")  # Nodes 2.0 may keep the text of the node before
    box = "[...document.querySelectorAll('textarea')].find((area) => area.getBoundingClientRect().width > 50)"
    page.click(box)
    page.write("a photo of zo")
    page.wait("document.querySelector('.ico-dci-hints div.on')?.textContent === 'zorp fish'")
    page.press("Tab")
    page.wait("!document.querySelector('.ico-dci-hints')")
    assert value(page, "text") == "a photo of zorp fish" == page.run(f"return {box}.value")
    page.write(" in the fog")
    assert value(page, "text") == "a photo of zorp fish in the fog"
    page.write(" by zo")
    page.wait("!!document.querySelector('.ico-dci-hints')")
    page.press("Escape")
    page.wait("!document.querySelector('.ico-dci-hints')")
    assert value(page, "text").endswith(" by zo")
    assert page.troubles(OURS) == []


def test_the_picker_lists_finds_and_takes_concepts(page: Page) -> None:
    page = shown(page, "ICOLoadConcept")
    page.run("app.graph._nodes[0].widgets.find((widget) => widget.name === 'concept_name').value = 'none'")
    page.click(f"{PANEL}.querySelector('button')")
    page.wait("document.querySelector('.ico-dci-box .card b')?.textContent === 'zorp fish'")
    page.write("turtle")
    page.wait("!document.querySelector('.ico-dci-box .card')")
    assert page.run("return document.querySelector('.ico-dci-box .quiet').textContent") == "0 of 1"
    page.run(
        "const i = document.querySelector('.ico-dci-box input'); i.value = ''; i.dispatchEvent(new Event('input'))"
    )
    page.click("document.querySelector('.ico-dci-box .card')")
    page.wait("!document.querySelector('.ico-dci-box')")
    assert value(page, "concept_name") == "zorp.safetensors"
    page.wait(f"{PANEL}.querySelector('b')?.textContent === 'zorp fish'")
    assert page.troubles(OURS) == []


@pytest.mark.parametrize("language", ["zh", "de"])
def test_names_come_in_the_language_that_the_page_is_set_to(site: Site, language: str) -> None:
    page = site.open(**{"Comfy.Locale": language})
    try:
        if page.run("return app.extensionManager.setting.get('Comfy.Locale')") != language:
            pytest.skip(f"this front end does not offer {language}")
        page.run(ADD.format("DBIMLayerMask"))
        words = {
            name: json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("main", "nodeDefs")
        }
        node = words["nodeDefs"]["DBIMLayerMask"]
        assert page.run("return app.graph._nodes[0].title") == node["display_name"]
        labels = page.run("return app.graph._nodes[0].inputs.map((input) => input.label ?? input.localized_name)")
        assert sorted(labels) == sorted(entry["name"] for entry in node["inputs"].values())
        shelf = "/".join(words["main"]["nodeCategories"][piece] for piece in ("ICO + DCI", "sampling"))
        assert page.run("return LiteGraph.registered_node_types.DBIMLayerMask.category") == shelf
        page.wait(f"{PANEL}.querySelector('option')?.textContent === {words['main']['icoDci']['tiny world']!r}")
    finally:
        page.close()
