"""What a training step takes on a card, counted in the host's own graph on `meta`: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fullsize import COMMON, KINDS
from lab import PACK
from torch import Tensor, nn

META = torch.device("meta")
TOKENS = 77


def flash_attention(function: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *_: Any, **how: Any) -> Tensor:
    """The attention that a card runs, which keeps no map; `plain_attention` finds it there by itself."""
    if not how.get("skip_reshape"):
        q, k, v = (
            x.flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)
        )  # some v have heads apart
    out = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return out.transpose(1, 2).flatten(2)


def unet_of(name: str) -> nn.Module:
    """The host's U-Net of a real model in fp16, without memory."""
    from comfy import ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    sizes = {key: value for key, value in {**COMMON, **KINDS[name].unet}.items() if value is not None}
    return UNetModel(**sizes, dtype=torch.float16, device=META, operations=ops.disable_weight_init)


def text_of(name: str) -> nn.Module:
    """The host's text encoders of a real model in fp16, without memory."""
    return KINDS[name].clip()(device=META, dtype=torch.float16)


def count(run: Callable[[], object], network: nn.Module, dtype: torch.dtype = torch.float16) -> Any:
    """What a forward pass keeps, whole and where the network's blocks are computed again; it computes in that type."""
    backward = PACK["nodes.host.ico.backward"]
    with PACK["nodes.host.ico.thaw"].open_to_gradients(network), backward.counting((network, dtype)) as kept, kept:
        run()
    return kept


def bytes_of(network: nn.Module) -> int:
    """Bytes of weights in half precision."""
    return sum(weight.numel() * 2 for weight in network.parameters())


def unet_step(name: str, network: nn.Module, size_px: int, rows: int, rank: int | None) -> Callable[[], Tensor]:
    """A call of the U-Net as training makes it: fp16, the text and what is learned in fp32 with gradients."""
    family = PACK["dci_core.families.table"].find_family(name)
    widths = PACK["dci_core.ico.state"].family_widths(name)
    with torch.inference_mode(False):
        deltas = PACK["dci_core.concept.deltas"].KVDeltas(widths, rank, torch.Generator(), META)
        x = torch.empty(rows, 4, size_px // 8, size_px // 8, dtype=torch.float16, device=META)
        text = torch.empty(rows, TOKENS, family.context_width, device=META, requires_grad=True)
        vector = torch.empty(rows, 2816, dtype=torch.float16, device=META) if name == "sdxl" else None
        times = torch.empty(rows, device=META)

    def run() -> Tensor:
        options = {"optimized_attention_override": flash_attention}
        options = PACK["nodes.host.attention.cross"].with_rule(options, family.learned_layers, deltas.rule())
        out = network(x, times, context=text.half(), y=vector, transformer_options=options).float()
        return out.square().mean()

    return run


def text_step(network: Any, name: str, rows: int) -> Callable[[], list[Tensor]]:
    """Text encoders with gradients for the rows that they read, as training asks them."""
    parts = [getattr(network, part) for part in ("clip_l", "clip_g", "clip_h") if hasattr(network, part)]
    with torch.inference_mode(False):
        tables = [part.transformer.get_input_embeddings().weight for part in parts]
        embeds = [torch.empty(rows, TOKENS, table.shape[1], device=META, requires_grad=True) for table in tables]

    def run() -> list[Tensor]:
        return [
            part.transformer(
                None, None, embeds=each, num_tokens=[8] * rows, intermediate_output=part.layer_idx,
                final_layer_norm_intermediate=True, dtype=torch.float32,
            )[1]
            for part, each in zip(parts, embeds, strict=True)
        ]  # fmt: skip

    return run
