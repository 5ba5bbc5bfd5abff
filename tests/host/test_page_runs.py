"""What the page shows of a run: a training as it goes, also on a page that is opened anew, and maps over steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import Page
from pages import ASIDE, OURS, Site, panel_of, wait_for_panel

sys.path.pop(0)

RUN_SECONDS = 300
STEPS = 24
TRAIN = panel_of("ICOTrainConcept")
MAPS = panel_of("DBIMPreview")

pytestmark = [pytest.mark.host, pytest.mark.slow]


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    """One node of a prompt."""
    return {"class_type": kind, "inputs": inputs}


def training(steps: int, seed: int) -> dict[str, Any]:
    """A short training on the tiny world, with samples."""
    return {
        "1": node("DCILoadTinyWorld", example="00-fish", kind="unet"),
        "2": node(
            "ICOTrainConcept", base_model=["1", 0], base_clip=["1", 1], vae=["1", 2], images=["1", 3], noun="fish",
            trigger="myfish", steps=steps, learning_rate=2.5e-4, seed=seed, batch=1, accumulation=1, modifier_tokens=2,
            size_px=0, kept_rank=4, contexts=True, prior="none", positions="corrected", schedule="constant",
            flip_probability=0.5, preview_every=4, context_factor=10.0, sample_every=8,
            sample_prompts="{concept} in snow",
        ),
        "3": node("PreviewImage", images=["2", 3]),
    }  # fmt: skip


def drawing(steps: int, prompt: str = "a zorp fish in snow") -> dict[str, Any]:
    """A DCI run of the tiny world with the concept that lies there, and its maps."""
    return {
        "1": node("DCILoadTinyWorld", example="00-fish", kind="unet"),
        "2": node(
            "ICOLoadConcept", base_model=["1", 0], base_clip=["1", 1], concept_name="zorp.safetensors", strength=1.0
        ),
        "3": node(
            "DCIPromptPair", clip=["2", 1], concept=["2", 2], prompt=prompt, auxiliary_noun="cat",
            auxiliary_prompt="",
        ),
        "4": node("CLIPTextEncode", clip=["2", 1], text=""),
        "5": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "6": node(
            "DCIDualBranchSampler", model=["2", 0], plan=["3", 1], positive=["3", 0], negative=["4", 0],
            latent_image=["5", 0], seed=7, steps=steps, cfg=4.0, sampler_name="euler", scheduler="normal", denoise=1.0,
            window=0.9, strength=2.0, guidance="aligned", gain="scaled", control="both", one_auxiliary=False,
            auxiliary_seed=-1, replay=False,
        ),
        "7": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "8": node("DBIMPreview", record=["6", 2], latent=["6", 0], picture=["7", 0], cell=24),
        "9": node("PreviewImage", images=["8", 0]),
    }  # fmt: skip


def lay_out(page: Page, prompt: dict[str, Any]) -> None:
    """The prompt as a graph on the page."""
    page.point(*ASIDE)
    page.run(f"await app.loadApiJson({json.dumps(prompt)}, 'run'); app.canvas.ds.reset();")
    page.wait(f"app.graph._nodes.length === {len(prompt)}")


def renumbered(flow: dict[str, Any]) -> dict[str, Any]:
    """The same workflow under another id and with other numbers, as a front end may load it."""
    nodes = [{**one, "id": one["id"] + 20} for one in flow["nodes"]]
    links = [[link, start + 20, out, end + 20, *rest] for link, start, out, end, *rest in flow["links"]]
    return {**flow, "id": str(uuid4()), "nodes": nodes, "links": links, "last_node_id": flow["last_node_id"] + 20}


def show(page: Page, kind: str) -> None:
    """Brings a node of this kind into sight."""
    page.run(
        f"const it = app.graph._nodes.find((node) => node.comfyClass === {kind!r}); app.canvas.ds.scale = 0.8;"
        "app.canvas.ds.offset = [250 - it.pos[0], 200 - it.pos[1]]; app.graph.setDirtyCanvas(true, true)"
    )


def test_a_training_shows_step_time_loss_and_samples_also_on_a_page_that_is_opened_anew(page: Page, site: Site) -> None:
    is_vue = page.run("return !!LiteGraph.vueNodesMode")
    lay_out(page, training(STEPS, seed=40 + is_vue))
    show(page, "ICOTrainConcept")
    wait_for_panel(page, TRAIN)
    page.run("await app.queuePrompt(0)")
    page.wait(f"/step [1-9]\\d* of {STEPS}/.test({TRAIN}.textContent)", RUN_SECONDS)
    page.wait(f"{TRAIN}.querySelector('canvas')?.width > 100", 20)
    page.wait(f"{TRAIN}.textContent.includes('left')", 60)
    saved = page.run("return app.graph.serialize()")
    assert page.troubles(OURS) == []
    anew = site.open(**{"Comfy.VueNodes.Enabled": is_vue})
    try:
        lay_out(anew, training(STEPS, seed=40 + is_vue))  # the same graph again, of which nothing runs
        anew.run("await new Promise((done) => setTimeout(done, 1500))")
        assert "step" not in anew.run(f"return {TRAIN}.textContent")
        anew.run(f"await app.loadGraphData({json.dumps(renumbered(saved))}, true, true, 'again')")
        show(anew, "ICOTrainConcept")
        anew.wait(f"/step [1-9]\\d* of {STEPS}/.test({TRAIN}.textContent)", 60)
        anew.wait(f"{TRAIN}.textContent.includes('samples of step {STEPS}')", RUN_SECONDS)
        anew.wait(f"{TRAIN}.textContent.includes('done')", RUN_SECONDS)
        assert anew.run(f"return {TRAIN}.querySelectorAll('img').length") >= 3  # previews and samples
        assert anew.troubles(OURS) == []
    finally:
        anew.close()
    page.wait(f"{TRAIN}.textContent.includes('write in prompts: myfish fish')", 60)


SAYING = (
    "app.graph._nodes.filter((node) => node.icoDci?.panel.inner.textContent.includes({!r})).map((node) => node.type)"
)
SAID = {"DCI acted in": "DCIDualBranchSampler", "auxiliary: a cat": "DCIPromptPair", "steps, from": "DBIMPreview"}


def test_what_nodes_said_stands_on_a_page_that_is_opened_anew(page: Page, site: Site) -> None:
    is_vue = page.run("return !!LiteGraph.vueNodesMode")
    flow = drawing(3, f"a zorp fish {'in fog' if is_vue else 'at night'}")  # what is cached says nothing
    lay_out(page, flow)
    show(page, "DBIMPreview")
    wait_for_panel(page, MAPS)
    page.run("await app.queuePrompt(0)")
    page.wait(f"{MAPS}.textContent.includes('steps, from')", RUN_SECONDS)
    for words, kind in SAID.items():
        page.wait(f"{SAYING.format(words)}.join() === {kind!r}")
    saved = page.run("return app.graph.serialize()")
    last = page.run(f"return {MAPS}.querySelector('input[type=range]').max")
    anew = site.open(**{"Comfy.VueNodes.Enabled": is_vue})
    try:
        lay_out(anew, flow)  # the same graph again, of which nothing ran
        anew.run("await new Promise((done) => setTimeout(done, 1500))")
        assert [anew.run(f"return {SAYING.format(words)}") for words in SAID] == [[], [], []]
        anew.run(f"await app.loadGraphData({json.dumps(renumbered(saved))}, true, true, 'again')")
        show(anew, "DBIMPreview")
        for words, kind in SAID.items():
            anew.wait(f"{SAYING.format(words)}.join() === {kind!r}")
        anew.wait(f"{MAPS}.querySelector('input[type=range]')?.max === {last!r}")
        assert anew.troubles(OURS) == []
    finally:
        anew.close()


def test_the_slider_goes_through_the_maps_of_the_steps(page: Page) -> None:
    lay_out(page, drawing(4))
    show(page, "DBIMPreview")
    wait_for_panel(page, MAPS)
    page.run("await app.queuePrompt(0)")
    page.wait(f"{MAPS}.querySelector('input[type=range]')?.getBoundingClientRect().width > 50", RUN_SECONDS)
    slider = f"{MAPS}.querySelector('input[type=range]')"
    last = int(page.run(f"return {slider}.max"))
    assert last >= 2
    page.wait(f"{MAPS}.textContent.includes('1 of {last + 1}, noise')")
    page.run("await new Promise((done) => setTimeout(done, 1500))")
    seen = f"{MAPS}.querySelector('canvas').toDataURL()"
    first = page.run(f"return {seen}")
    page.click(slider, across=0.97)
    page.wait(f"{MAPS}.textContent.includes('{last + 1} of {last + 1}, noise')")
    assert page.run(f"return {seen}") != first
    assert page.run(f"return {MAPS}.textContent").count("concept")  # the legend
    assert page.troubles(OURS) == []
