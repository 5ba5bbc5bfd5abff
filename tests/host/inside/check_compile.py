"""The host's own torch.compile around the dual branch: the same picture, one compilation more where the window ends."""

from __future__ import annotations

from typing import Any

import torch
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text
from marks import slow

NEGATIVE = conditioning(text(3))


def compiled(model: Any) -> Any:
    """A clone whose U-Net the host compiles, without a code generator behind it.

    Its attention is PyTorch's: the host's own on a CPU reads a file at every call to see how much memory is free.
    """
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    clone = model.clone()
    options = clone.model_options["transformer_options"]
    options["optimized_attention_override"] = PACK["nodes.host.ico.model"].plain_attention
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
def test_a_compiled_model_breaks_nowhere_and_compiles_once_more_for_the_window() -> None:
    model = small_model()
    pair = plan(text(2))
    positive = conditioning(text(1), pair)
    assert graphs_of(compiled(model), positive)[:2] == (1, 0)
    patched, _ = apply(model, pair, window=0.5)
    graphs, breaks, latent = graphs_of(compiled(patched), positive)
    assert (graphs, breaks) == (2, 0)
    assert distance(latent, sample(patched, positive, NEGATIVE, steps=6)) < 1e-4
