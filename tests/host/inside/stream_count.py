"""What a training step on a transformer takes on a card, counted in the host's own graph on `meta`, as on U-Nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from anima_lab import NETWORK
from check_fullwidth import FLUX as WIDE_FLUX
from check_fullwidth import QWEN as WIDE_QWEN
from check_fullwidth import SD3 as WIDE_SD3
from flux_lab import KLEIN, known
from lab import PACK
from memory_count import META, flash_attention
from stream_lab import Z_IMAGE
from torch import Tensor, nn

HALF = torch.bfloat16
ROWS = 512  # of a text: as many as the longest fills
KLEIN_4B = {
    **KLEIN, "hidden_size": 3072, "mlp_ratio": 3.0, "num_heads": 24, "depth": 5, "depth_single_blocks": 20,
    "theta": 2000, "in_channels": 128, "out_channels": 128, "axes_dim": [32] * 4,
}  # fmt: skip
KLEIN_9B = {
    "hidden_size": 4096, "num_heads": 32, "depth": 8, "depth_single_blocks": 24, "context_in_dim": 12288,
}  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A base in full size: its network, what makes its text encoders, the width of a text's rows, and what else it
    reads, by (rows) -> named inputs; how many rows a text has in a language model, and in the network.
    """

    network: tuple[str, str]
    sizes: dict[str, Any]
    encoders: Callable[[], Any]
    text_width: int
    more: Callable[[int], dict[str, Any]] = lambda rows: {}
    words: int = ROWS
    text_rows: int = ROWS


def of_flux(rows: int) -> dict[str, Any]:
    """The pooled text and the guidance."""
    return {"y": torch.empty(rows, 768, dtype=HALF, device=META), "guidance": torch.empty(rows, device=META)}


def of_sd3(depth: int, places: int, **more: Any) -> Base:
    """A size of SD 3: so many blocks, table of positions with so many a side; T5 fills as many rows as CLIP."""
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
    sizes = {
        **WIDE_SD3, "depth": depth, "num_blocks": None, "num_patches": places**2, "pos_embed_max_size": places,
        "context_embedder_config": embedder, **more,
    }  # fmt: skip
    return Base(
        *(("comfy.ldm.modules.diffusionmodules.mmdit", "MMDiT"), sizes),
        *(encoders("sd3_clip", "sd3_clip", dtype_t5=torch.float16), 4096),
        lambda rows: {"y": torch.empty(rows, 2048, dtype=HALF, device=META)},
        words=77,
        text_rows=2 * 77,
    )


def encoders(module: str, name: str, **given: Any) -> Callable[[], Any]:
    """What makes text encoders of the host's."""
    return lambda: getattr(import_module(f"comfy.text_encoders.{module}"), name)(**given)


def bases() -> dict[str, Base]:
    """Every base that is counted, by the name of its family."""
    flux = ("comfy.ldm.flux.model", "Flux")
    anima = {**NETWORK, "model_channels": 2048, "num_heads": 16, "num_blocks": 28, "adaln_lora_dim": 256}
    z_image = {
        **Z_IMAGE, "in_channels": 16, "dim": 3840, "n_layers": 30, "n_heads": 30, "n_kv_heads": 30,
        "ffn_dim_multiplier": 8 / 3,
    }  # fmt: skip
    deep = {**WIDE_FLUX, "depth": 19, "depth_single_blocks": 38, "txt_ids_dims": []}
    return {
        "anima": Base(("comfy.ldm.anima.model", "Anima"), anima, encoders("anima", "te"), 1024),
        "flux": Base(flux, deep, encoders("flux", "flux_clip", dtype_t5=torch.float16), 4096, of_flux),
        "flux2_klein_4b": Base(flux, KLEIN_4B, encoders("flux", "klein_te"), 7680),
        "flux2_klein_9b": Base(
            flux, {**KLEIN_4B, **KLEIN_9B}, encoders("flux", "klein_te", model_type="qwen3_8b"), 12288
        ),
        "z_image": Base(
            *(("comfy.ldm.lumina.model", "NextDiT"), z_image, encoders("z_image", "te"), 2560),
            lambda rows: {"num_tokens": ROWS},
        ),
        "qwen_image": Base(
            ("comfy.ldm.qwen_image.model", "QwenImageTransformer2DModel"), {**WIDE_QWEN, "num_layers": 60},
            encoders("qwen_image", "te"), 3584,
        ),
        "krea2": Base(("comfy.ldm.krea2.model", "SingleStreamDiT"), {}, encoders("krea2", "te"), 12 * 2560),
        "sd3_medium": of_sd3(24, 192),
        "sd35_medium": of_sd3(24, 384, qk_norm="rms", x_block_self_attn_layers=list(range(13))),
        "sd35_large": of_sd3(38, 192, qk_norm="rms"),
    }  # fmt: skip


def network_of(base: Base, dtype: torch.dtype = HALF) -> nn.Module:
    """The host's network with weights of this type, without memory; it computes in bf16."""
    from comfy import ops

    module, name = base.network
    sizes = known(base.sizes) if name == "Flux" else base.sizes
    layers = ops.disable_weight_init if dtype == HALF else ops.manual_cast
    made: nn.Module = getattr(import_module(module), name)(**sizes, dtype=dtype, device=META, operations=layers)
    return made


def network_step(
    name: str, base: Base, network: Any, size_px: int, rows: int, rank: int | None
) -> Callable[[], Tensor]:
    """A call of the network as training makes it: bf16, the text and what is learned in fp32 with gradients."""
    row = PACK["dci_core.families.table"].find_family(name)
    widths = PACK["dci_core.ico.state"].family_widths(name)
    side = size_px // row.latent_scale
    shape = (rows, row.latent_channels, *((1,) if row.has_time else ()), side, side)
    with torch.inference_mode(False):
        deltas = PACK["dci_core.concept.deltas"].KVDeltas(widths, rank, torch.Generator(), META)
        x, times = torch.empty(shape, dtype=HALF, device=META), torch.empty(rows, device=META)
        text = torch.empty(rows, base.text_rows, base.text_width, device=META, requires_grad=True)
        ids, more = torch.empty(rows, ROWS, dtype=torch.int, device=META), base.more(rows)
    joint, model = PACK["nodes.host.attention.joint_rule"], SimpleNamespace(diffusion_model=network)

    def run() -> Tensor:
        options = {"optimized_attention_override": flash_attention}
        rule, words = deltas.rule(holds_first=False), text.to(HALF)
        options = joint.with_attention_rule(options, row.learned_layers, rule, model, (side, side))
        if row.reserved:
            network.llm_adapter.rotary_emb.forward = angles  # the host's own asks for a device that has an autocast
            words = network.preprocess_text_embeds(words, ids)
        out = network(x, times, context=words, transformer_options=options, **more).float()
        return out.square().mean()

    return run


def angles(x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of Anima's adapter [1 t 64]."""
    cos, sin = (torch.empty(1, places.shape[1], 64, dtype=x.dtype, device=META) for _ in range(2))
    return cos, sin


def encoder_step(network: Any, row: Any, rows: int, words: int = ROWS) -> Callable[[], list[Tensor]]:
    """Text encoders with gradients for the rows that they read, as training asks them."""
    parts = [getattr(network, name) for name in row.encoders]
    lengths = [77 if name.startswith("clip") else words for name in row.encoders]
    with torch.inference_mode(False):
        tables = [part.transformer.get_input_embeddings().weight for part in parts]
        embeds = [
            torch.empty(rows, length, table.shape[1], device=META, requires_grad=True)
            for table, length in zip(tables, lengths, strict=True)
        ]

    def run() -> list[Tensor]:
        return [
            part.transformer(
                None, None, embeds=each, num_tokens=[8] * rows,
                intermediate_output=part.layer if isinstance(part.layer, list) else part.layer_idx,
                final_layer_norm_intermediate=True, dtype=torch.float32,
            )[0]
            for part, each in zip(parts, embeds, strict=True)
        ]  # fmt: skip

    return run
