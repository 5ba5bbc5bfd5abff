"""The page in a real browser: workflows open, panels write widgets, names come in the user's language."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from dci_core.concept.file import save_concept
from dci_core.concept.learned import Concept

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "inside"))
from browser import Browser, Page, absence, browsing
from flows import server_nodes
from hosts import ROOT, Host, find_front_ends, find_hosts
from serving import Server, serving

sys.path.pop(0)
sys.path.pop(0)

OURS = "/extensions/ico-dci/"
SETTINGS = {  # the page as somebody has it who was here before
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.Persist": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Locale": "en",
}
READY = "window.app?.graph && app.extensionManager && window.LiteGraph?.registered_node_types?.ICOTrainConcept"
ADD = """app.graph.clear();
await new Promise((done) => setTimeout(done, 100));  // Nodes 2.0 forgets the node that had this number
const made = LiteGraph.createNode({!r});
made.pos = [90, 90];
app.graph.add(made);
app.canvas.ds.reset();"""
PANEL = "app.graph._nodes[0].icoDci.panel.inner"  # of the one node on the page
ASIDE = (1500, 900)  # px, where the mouse touches nothing
TINY_LAYERS = 10

pytestmark = [pytest.mark.host, pytest.mark.slow]


@dataclass(frozen=True)
class Site:
    """A host with one concept, and the browser that looks at it."""

    server: Server
    browser: Browser
    pages: dict[bool, Page] = field(default_factory=dict)  # by whether Nodes 2.0 draws

    def open(self, **settings: Any) -> Page:
        """The host's page, ready, with these settings."""
        self.server.ask("/settings", {**SETTINGS, **settings})
        page = self.browser.open(self.server.address)
        page.wait(READY, 120)
        page.run("await new Promise((done) => setTimeout(done, 1000))")  # its own first workflow is drawn
        return page


def shown_by() -> list[tuple[Host, Path | None]]:
    """Every host with its own front end, and the first one with each other that the environment names."""
    hosts = find_hosts()
    return [*((host, None) for host in hosts), *((hosts[0], folder) for folder in find_front_ends())]


def name_of(shown: tuple[Host, Path | None]) -> str:
    """`0.33.0`, or `0.33.0-1.58.1`: the host, and the version of a front end that is not its own."""
    host, folder = shown
    if folder is None:
        return host.name
    about = next(folder.parent.parent.glob("comfyui_frontend_package-*.dist-info"), folder)
    return f"{host.name}-{about.name.removeprefix('comfyui_frontend_package-').removesuffix('.dist-info')}"


@pytest.fixture(scope="module", params=shown_by(), ids=name_of)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    host, front_end = request.param
    if reason := absence() or host.absence():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("served")
    tokens = {"clip_l": torch.zeros(1, 128)}
    (base / "models" / "ico_concepts").mkdir(parents=True)
    save_concept(Concept("tiny", "zorp", "fish", tokens, {}), base / "models" / "ico_concepts" / "zorp.safetensors")
    with browsing(tmp_path_factory.mktemp("browser")) as browser, serving(host, base, front_end) as server:
        yield Site(server, browser)


@pytest.fixture(params=[False, True], ids=["classic", "nodes2"])
def page(request: pytest.FixtureRequest, site: Site) -> Page:
    """One page for each renderer of each host."""
    is_vue = request.param
    if is_vue not in site.pages:
        site.pages[is_vue] = site.open(**{"Comfy.VueNodes.Enabled": is_vue})
    made = site.pages[is_vue]
    assert made.run("return !!LiteGraph.vueNodesMode") is is_vue
    return made


def shown(page: Page, kind: str) -> Page:
    """The page with one node of ours on it; skips where its front end shows no panels in this renderer."""
    page.point(*ASIDE)
    page.run(ADD.format(kind))
    try:
        page.wait(f"{PANEL}.getBoundingClientRect().width > 50", 10)
    except AssertionError:
        if page.run("return !!LiteGraph.vueNodesMode && !document.querySelector('.ico-dci')"):
            pytest.skip("this front end shows no widgets of packs in Nodes 2.0")
        raise
    return page


def value(page: Page, name: str) -> Any:
    """A widget's value of the one node on the page."""
    return page.run(f"return app.graph._nodes[0].widgets.find((widget) => widget.name === {name!r}).value")


def test_the_first_workflow_opens_without_errors_or_missing_nodes(page: Page) -> None:
    path = next((ROOT / "workflows").glob("1 *.json"))
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
        page.wait(f"{PANEL}.querySelector('button')?.textContent === {words['main']['icoDci']['tiny world']!r}")
    finally:
        page.close()
