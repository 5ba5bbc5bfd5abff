"""Cases of --full under torch.compile: whether DCI keeps what a compiled model gains, and what it then adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from dci_core.dci.branches import DciSettings
from dci_core.dci.run import sample_latents
from dci_core.tiny.model import TinyModel

from .measure import Bench, Figure, Unmeasured, side_by_side
from .runs import SCHEDULER, SETTINGS, STEPS, WINDOW, prompts_and_model

BATCH = 4
DCI = DciSettings(window=WINDOW, guidance="shared")
Run = tuple[bool, DciSettings | None]
"""(whether the U-Net is compiled, DCI or plain sampling)"""
RUNS: dict[str, tuple[Run, Run, str, float | None]] = {
    "compiled_plain": ((True, None), (False, None), "plain, compiled against not", None),
    "compiled_shared": ((True, DCI), (False, DCI), "DCI, compiled against not", None),
    "compiled_shared_vs_plain": ((True, DCI), (True, None), "both compiled, DCI against plain", 1.17),
}


@cache
def model_of(device: torch.device, is_compiled: bool) -> TinyModel:
    """The shipped model with three random tokens, its U-Net compiled for fixed shapes, or not."""
    model = prompts_and_model(device)[1]
    return replace(model, unet=torch.compile(model.unet, dynamic=False)) if is_compiled else model


def draw(device: torch.device, run: Run) -> Tensor:
    """The latents of one run."""
    is_compiled, dci = run
    model, prompts = model_of(device, is_compiled), prompts_and_model(device)[0]
    with torch.no_grad():
        return sample_latents(model, prompts, seeds=range(BATCH), settings=SETTINGS, dci=dci).concept


def compiled_case(name: str) -> Callable[[Bench], list[Figure]]:
    """A case: one run against another; what compiling takes lies before them."""
    subject, base, words, target = RUNS[name]

    def measured(bench: Bench) -> list[Figure]:
        works = [partial(draw, bench.device, run) for run in (subject, base)]
        try:
            for work in works:
                work()
        except RuntimeError as error:  # no compiler for this device
            raise Unmeasured(f"torch.compile fails here: {str(error).splitlines()[0]}") from error
        what = f"whole run, tiny world, {STEPS} steps, {SCHEDULER} scheduler, batch {BATCH}: {words}"
        return [side_by_side(replace(bench, dtype=torch.float32), name, *works, what=what, target=target)]

    return measured


FULL = {name: compiled_case(name) for name in RUNS}
