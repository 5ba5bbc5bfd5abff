"""Whole runs on the tiny world: what the auxiliary branch adds to plain sampling of the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from dci_core.dci.branches import DciSettings
from dci_core.dci.run import SampleSettings, sample_latents
from dci_core.text.prompts import Prompts
from dci_core.text.tokens import PromptPair
from dci_core.tiny.model import TinyModel, load_tiny_world

from .measure import Bench, Figure, side_by_side

STEPS, SCHEDULER, WINDOW = 30, "normal", 0.3
SETTINGS = SampleSettings(num_steps=STEPS, cfg=6.0, sampler="ddim", spacing=SCHEDULER)


@cache
def prompts_and_model(device: torch.device) -> tuple[Prompts, TinyModel]:
    """The shipped model, and a pair of prompts whose concept is a trigger of three random tokens."""
    bare = load_tiny_world().model
    vectors = torch.randn(3, bare.encoders["clip_l"].width, generator=torch.Generator().manual_seed(0)) * 0.08
    model = TinyModel(bare.text.to(device), bare.unet.to(device)).with_tokens("zorp", {"clip_l": vectors.to(device)})
    words = {"trigger": "zorp", "noun": "fish", "auxiliary": "cat", "encoder": model.encoders["clip_l"]}
    return Prompts.from_pair(model, PromptPair.from_template("a {concept} in the snow", **words)), model


def run(device: torch.device, batch: int, dci: DciSettings | None) -> Tensor:
    """The latents of one run."""
    prompts, model = prompts_and_model(device)
    with torch.no_grad():
        return sample_latents(model, prompts, seeds=range(batch), settings=SETTINGS, dci=dci).concept


def against_plain(case: str, target: float, batch: int, dci: DciSettings) -> Callable[[Bench], list[Figure]]:
    """A case: this run against the plain run of the same pictures."""

    def measured(bench: Bench) -> list[Figure]:
        what = f"whole run, tiny world, {STEPS} steps, {SCHEDULER} scheduler, batch {batch}, against plain"
        works = [partial(run, bench.device, batch, setting) for setting in (dci, None)]
        fp32 = replace(bench, dtype=torch.float32)  # the tiny world's own precision
        return [side_by_side(fp32, case, *works, what=what, target=target)]

    return measured


CASES: dict[str, Callable[[Bench], list[Figure]]] = {
    "run_shared": against_plain("run_shared", 1.17, 4, DciSettings(window=WINDOW, guidance="shared")),
    "run_separate": against_plain("run_separate", 1.33, 4, DciSettings(window=WINDOW, guidance="separate")),
    "run_window0": against_plain("run_window0", 1.00, 4, DciSettings(window=0.0)),
    "run_shared_aux_batch4": against_plain(
        "run_shared_aux_batch4", 1.09, 4, DciSettings(window=WINDOW, guidance="separate", one_auxiliary=True)
    ),
}
