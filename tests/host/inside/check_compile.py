"""The host's own torch.compile around the dual branch: the same picture, one compilation more where the window ends."""

from __future__ import annotations

from typing import Any

import torch
from lab import apply, conditioning, distance, plan, sample, small_model, text
from marks import slow

NEGATIVE = conditioning(text(3))


def compiled(model: Any) -> Any:
    """A clone whose U-Net the host compiles, without a code generator behind it."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    clone = model.clone()
    set_torch_compile_wrapper(model=clone, backend="eager")
    return clone


def graphs_of(model: Any, positive: Any) -> tuple[int, int, torch.Tensor]:
    """(graphs, graph breaks, latent) of one run."""
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    latent = sample(model, positive, NEGATIVE, steps=6)
    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()), latent


@slow
def test_a_compiled_model_breaks_no_more_often_and_compiles_once_more() -> None:
    model = small_model()
    pair = plan(text(2))
    positive = conditioning(text(1), pair)
    graphs, breaks, _ = graphs_of(compiled(model), positive)
    patched, _ = apply(model, pair, window=0.5)
    more_graphs, more_breaks, latent = graphs_of(compiled(patched), positive)
    assert breaks <= more_breaks <= 2 * breaks, (breaks, more_breaks)
    assert more_graphs <= 2 * graphs, (graphs, more_graphs)
    assert distance(latent, sample(patched, positive, NEGATIVE, steps=6)) < 1e-4
