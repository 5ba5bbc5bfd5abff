"""What a concept costs to put in place, how large its file is, and what its truncation to rank 16 changes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dci_core.concept.apply import apply_concept
from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.file import load_concept, save_concept
from dci_core.concept.learned import DEFAULT_RANK, Concept, pack_deltas
from dci_core.families.table import find_family
from dci_core.families.weight_names import weight_key
from dci_core.ico.result import make_concept, trained_deltas
from dci_core.ico.train import train_steps
from dci_core.studies.gates.concepts import begin
from dci_core.studies.gates.trial import Ask, asks_for, judged, pictures_of, scale_for
from dci_core.text.prompts import Prompts
from dci_core.tiny.defaults import TINY_ICO
from dci_core.tiny.judge import Judge
from dci_core.tiny.model import TinyModel, World, load_part, load_tiny_world
from dci_core.tiny.world.concepts import CONCEPTS, HeldOut

from .measure import Bench, Figure, alone

MOST_BYTES, MOST_LIKENESS = 2e6, 0.02
PROMPTS, SEEDS = 4, (0, 1, 2, 3)


@cache
def sd15_concept() -> Concept:
    """A concept of SD 1.5's size and rank 16, random."""
    family, source = find_family("sd15"), torch.Generator().manual_seed(0)

    def change(width: int) -> Delta:
        up, down = torch.randn(width, DEFAULT_RANK, generator=source), torch.randn(DEFAULT_RANK, 768, generator=source)
        return Delta(up.half(), (down * 1e-3).half())

    deltas = {layer: LayerDelta(*(change(family.width(layer)) for _ in range(2))) for layer in family.layers}
    tokens = {"clip_l": torch.randn(3, 768, generator=source)}
    return Concept("sd15", "zorp", "dog", tokens, deltas)


def apply_case(bench: Bench) -> list[Figure]:
    """File read, changes made dense, added to the 32 weights."""
    concept, family = sd15_concept(), find_family("sd15")
    weights = {
        weight_key(layer, part): torch.zeros(family.width(layer), 768, device=bench.device)
        for layer in family.layers
        for part in ("k", "v")
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "concept.safetensors"
        save_concept(concept, path)

        def put() -> None:
            for name, change in load_concept(path).weights().items():
                weights[name].add_(change.to(bench.device))

        what = "SD 1.5's size, rank 16: file read, 32 changes made dense and added"
        return [alone(replace(bench, dtype=torch.float32), "concept_apply", put, what=what, target=0.3)]


def file_case(bench: Bench) -> list[Figure]:
    """The file's size as a share of what it may be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "concept.safetensors"
        save_concept(sd15_concept(), path)
        size = path.stat().st_size
    what = f"rank 16, SD 1.5's size, fp16: {size / 1e6:.2f} MB against {MOST_BYTES / 1e6:.0f} MB"
    return [Figure("concept_file", size / MOST_BYTES, None, 0.0, "cpu", "float16", what, 1.0)]


def truncation_case(bench: Bench) -> list[Figure]:
    """A tiny-world concept of full rank and its copy of rank 16: keys and values on real text, likeness of pictures."""
    world, thing = load_tiny_world(), CONCEPTS[0]
    judge = load_part("judge", Judge())
    assert isinstance(judge, Judge)
    data, state = begin(world, thing, "varied", TINY_ICO)
    for _ in train_steps(world.model, data, state):
        pass
    whole = make_concept(state, trigger="zorp", rank=None, precision="fp32")
    deltas, about = pack_deltas(trained_deltas(state), DEFAULT_RANK, "fp16")
    short = replace(whole, deltas=deltas, about=about)
    asks = asks_for(thing)[:PROMPTS]
    models = [apply_concept(world.model, concept) for concept in (whole, short)]
    moved = change_of_outputs(world.model, models[0], models[1], asks, thing)
    likeness = [mean_likeness(world, model, judge, asks, thing) for model in models]
    steps = f"tiny world, concept 0, full rank, {TINY_ICO.steps} steps, cut to rank {DEFAULT_RANK}"
    apart = f"{steps}: likeness {likeness[0]:.3f} -> {likeness[1]:.3f}, {PROMPTS} prompts x {len(SEEDS)} pictures"
    outputs = f"{steps}: keys and values of real prompts, relative L2; of the changes alone {about.error:.3f}"
    return [
        Figure("concept_truncation_kv", moved, None, 0.0, "cpu", "float32", outputs),
        Figure("concept_truncation", abs(likeness[0] - likeness[1]), None, 0.0, "cpu", "float32", apart, MOST_LIKENESS),
    ]


def change_of_outputs(base: TinyModel, whole: TinyModel, short: TinyModel, asks: list[Ask], thing: HeldOut) -> float:
    """Relative L2 difference of all keys and values of the prompts' texts."""
    lost = total = 0.0
    texts = [prompts_of(whole, ask, thing).concept.hidden for ask in asks]
    layers = zip(whole.unet.cross_attentions().values(), short.unet.cross_attentions().values(), strict=True)
    for full, cut in layers:
        for text in texts:
            for mine, other in ((full.to_k(text), cut.to_k(text)), (full.to_v(text), cut.to_v(text))):
                lost, total = lost + square(mine - other), total + square(mine)
    return (lost / total) ** 0.5


def square(x: Tensor) -> float:
    """Sum of squares."""
    return float(x.double().square().sum())


def prompts_of(model: TinyModel, ask: Ask, thing: HeldOut) -> Prompts:
    """The plain prompts of one trial."""
    return Prompts.from_text(model, ask.template.replace("{concept}", f"zorp {thing.thing.noun}"))


def mean_likeness(world: World, model: TinyModel, judge: Judge, asks: list[Ask], thing: HeldOut) -> float:
    """The judge's likeness, mean over all pictures of all prompts, drawn plainly."""
    scale = scale_for(judge, thing)
    found = [
        judged(judge, pictures_of(model, world.codec, prompts_of(model, ask, thing), SEEDS), scale, ask) for ask in asks
    ]
    return float(torch.cat([verdict.likeness for verdict in found]).mean())
