"""The host's page with this pack in it: which hosts and front ends are tried, and how a test looks at one node."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page
from hosts import Host, find_front_ends, find_hosts
from serving import Server

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
        try:
            wait_until_ready(page)
        except BaseException:
            page.close()  # a page that is left open takes its share of a busy machine
            raise
        return page

    def drawn_by(self, is_vue: bool) -> Page:
        """One page for each renderer."""
        if is_vue not in self.pages:
            self.pages[is_vue] = self.open(**{"Comfy.VueNodes.Enabled": is_vue})
        assert self.pages[is_vue].run("return !!LiteGraph.vueNodesMode") is is_vue
        return self.pages[is_vue]


def wait_until_ready(page: Page) -> None:
    """Returns when nodes are known and the page's own first workflow is drawn."""
    page.wait(READY, 120)
    page.run("await new Promise((done) => setTimeout(done, 1000))")


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


def shown(page: Page, kind: str) -> Page:
    """The page with one node of ours on it; skips where its front end shows no panels in this renderer."""
    page.point(*ASIDE)
    page.run(ADD.format(kind))
    wait_for_panel(page, PANEL)
    return page


def wait_for_panel(page: Page, panel: str) -> None:
    """Returns when a panel is drawn; skips where this front end shows none in this renderer."""
    try:
        page.wait(f"{panel}.getBoundingClientRect().width > 50", 10)
    except AssertionError:
        skip_without_panels(page)
        raise


def skip_without_panels(page: Page) -> None:
    """Skips where this front end draws none of a pack's panels; nodes of ours are on the page."""
    if page.run("return !!LiteGraph.vueNodesMode && !document.querySelector('.ico-dci')"):
        pytest.skip("this front end shows no widgets of packs in Nodes 2.0")


def value(page: Page, name: str) -> Any:
    """A widget's value of the one node on the page."""
    return page.run(f"return app.graph._nodes[0].widgets.find((widget) => widget.name === {name!r}).value")


def panel_of(kind: str) -> str:
    """The panel of the first node of this kind, as an expression."""
    return f"app.graph._nodes.find((node) => node.comfyClass === {kind!r}).icoDci.panel.inner"
