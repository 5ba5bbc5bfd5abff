"""What training takes on transformers, counted in the host's own graph, and the presets that follow from it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lab import PACK
from marks import Absent, slow
from memory_count import META, bytes_of, count
from stream_count import HALF, Base, bases, encoder_step, network_of, network_step

sys.path.append(str(Path(__file__).parents[2] / "core" / "ico"))
from base_sizes import BYTES

MODULES = {"anima": "comfy.ldm.anima.model", "z_image": "comfy.text_encoders.z_image", "krea2": "comfy.ldm.krea2"}
EIGHT = torch.float8_e4m3fn


def is_there(name: str) -> bool:
    """Whether this host has the base."""
    from comfy import model_base

    return hasattr(model_base, "Flux2") if "klein" in name else find_spec(MODULES.get(name, "comfy")) is not None


def counted(name: str, base: Base) -> dict[str, Any]:
    """Bytes of weights and of the text of one row and of two; of one row, (whole, computed again) by weights and px."""
    row = PACK["dci_core.families.table"].find_family(name)
    rank = PACK["dci_core.ico.rank"].choose_rank("auto", PACK["dci_core.ico.state"].family_widths(name))
    with torch.inference_mode(False):
        networks = {"bf16": network_of(base), "fp8": network_of(base, EIGHT)}
        text = base.encoders()(device=META, dtype=torch.float16)
    told = PACK["nodes.host.families.transformers"]
    layout = told.layout_of(networks["bf16"])
    assert told.transformer_family(layout, networks["bf16"]) is row, (name, layout)  # known by its full size
    found: dict[str, Any] = {"weights": bytes_of(networks["bf16"]), "text_weights": bytes_of(text)}
    for kind, network in networks.items():
        for px in (512, 1024):
            kept = count(network_step(name, base, network, px, 1, rank), network, HALF)
            found[f"{kind} {px}"] = kept.count, kept.recomputed
    for rows in (1, 2):
        kept = count(encoder_step(text, row, rows, base.words), text, torch.float32)
        found[f"text {rows}"] = kept.count, kept.recomputed
    return found


def check(name: str) -> None:
    """Prints what `docs/performance.md` shows, and compares the pack's table with it."""
    if not is_there(name):
        raise Absent(f"this ComfyUI has no {name}")
    found, cost = counted(name, bases()[name]), PACK["dci_core.ico.memory"].cost_of(name)
    print("MEASURED", name, found, flush=True)
    weights = {"bf16": 0, "fp8": cost.casts * 2}
    for kind, casts in weights.items():
        for px in (512, 1024):
            planned = cost.row + cost.pixel * px**2 + casts
            assert 1 <= planned / found[f"{kind} {px}"][1] < 1.05, (name, kind, px, planned, found)
    for rows in (1, 2):
        planned = cost.text + rows * cost.text_row
        assert 1 <= planned / found[f"text {rows}"][1] < 1.05, (name, rows, planned, found)
    assert BYTES[name] == (found["weights"], found["text_weights"])


@slow
def test_the_cost_of_anima_is_what_its_graph_keeps() -> None:
    check("anima")


@slow
def test_the_cost_of_flux_is_what_its_graph_keeps() -> None:
    check("flux")


@slow
def test_the_cost_of_klein_4b_is_what_its_graph_keeps() -> None:
    check("flux2_klein_4b")


@slow
def test_the_cost_of_klein_9b_is_what_its_graph_keeps() -> None:
    check("flux2_klein_9b")


@slow
def test_the_cost_of_z_image_is_what_its_graph_keeps() -> None:
    check("z_image")


@slow
def test_the_cost_of_qwen_image_is_what_its_graph_keeps() -> None:
    check("qwen_image")


@slow
def test_the_cost_of_krea2_is_what_its_graph_keeps() -> None:
    check("krea2")


@slow
def test_the_cost_of_sd3_medium_is_what_its_graph_keeps() -> None:
    check("sd3_medium")


@slow
def test_the_cost_of_sd35_medium_is_what_its_graph_keeps() -> None:
    check("sd35_medium")


@slow
def test_the_cost_of_sd35_large_is_what_its_graph_keeps() -> None:
    check("sd35_large")
