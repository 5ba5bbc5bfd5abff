"""What a new reference picture costs beyond its CLIP encoding: fused tokens, and keys and values of every block."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dci_core.dynaip.adapter import Adapter, default_params
from dci_core.dynaip.reference import prepare_reference

from .hosted import free_bytes
from .measure import Bench, Figure, Unmeasured, alone

TOKENS = {
    "tiny_flow": 65,
    "flux": 257,
}  # of the vision model: 8 x 8 patches, 16 x 16 of ViT-L/14 at 224 px, each with CLS
SECONDS = 0.3


def tiny_reference(bench: Bench) -> list[Figure]:
    """The small world's adapter."""
    return [new_reference(replace(bench, dtype=torch.float32), "tiny_flow")]


def flux_reference(bench: Bench) -> list[Figure]:
    """One of Flux's size, 1.7 billion parameters, in the bench's precision."""
    needed = 3 * 2**30 * (4 if bench.dtype == torch.float32 else 2)
    if bench.device.type == "cpu" and free_bytes() < needed:
        raise Unmeasured(f"{needed / 2**30:.0f} GiB are needed")
    return [new_reference(bench, "flux")]


@torch.no_grad()
def new_reference(bench: Bench, family: str) -> Figure:
    """One picture's hidden states made into what every block reads."""
    params = default_params(family)
    before = torch.get_default_dtype()
    torch.set_default_dtype(bench.dtype)
    with torch.device(bench.device):
        adapter = Adapter(params).eval()
    torch.set_default_dtype(before)
    generator = torch.Generator().manual_seed(1)
    shape = (1, TOKENS[family], params.vision_width)
    states: dict[int, Tensor] = {
        level: torch.randn(shape, generator=generator).to(bench.device, bench.dtype) for level in params.levels
    }
    what = f"{len(params.block_ids)} blocks, {params.tokens} tokens {params.token_width} wide, levels {params.levels}"

    def work() -> None:
        prepare_reference(adapter, states)

    return alone(bench, f"new_reference_{family}", work, what=what, target=SECONDS)
