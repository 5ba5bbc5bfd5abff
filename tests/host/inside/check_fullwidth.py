"""Blocks of the real families' width, with random weights: their hooks tell the shapes that real adapters have."""

from __future__ import annotations

from typing import Any

import torch
from lab import conditioning, distance, sample
from marks import slow
from mmdit_lab import block, fill, installed, new_fields
from torch import Tensor

FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096,
    "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
}  # fmt: skip
SD3 = {
    "in_channels": 16, "out_channels": None, "patch_size": 2, "num_blocks": 2, "adm_in_channels": 2048,
    "input_size": None, "num_patches": 1024, "pos_embed_max_size": 32,
}  # fmt: skip
QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 1, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 3584, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip


def wide_model(name: str, sizes: dict[str, Any]) -> Any:
    """A patcher around one or two blocks of a real family."""
    from comfy import model_base, model_patcher, supported_models

    config = getattr(supported_models, name)(sizes)
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    with torch.inference_mode(False), torch.no_grad():
        model = getattr(model_base, name)(config, device=cpu)
        fill(model.diffusion_model, 1.0)
    return model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def words(seed: int, width: int, pooled: int) -> Any:
    source = torch.Generator().manual_seed(seed)
    return conditioning(
        torch.randn(1, 8, width, generator=source), pooled_output=torch.randn(1, pooled, generator=source)
    )


def check(
    model: Any, names: tuple[str, ...], shape: tuple[int, ...], text: tuple[int, int], heads: int, d: int
) -> None:
    """Every block's queries have the family's own shape, and what a rule adds shows."""
    seen: list[tuple[int, ...]] = []

    def rule(call: Any) -> Tensor:
        seen.append(tuple(call.q.shape))
        b, h, n, width = call.q.shape
        return torch.ones(b, n, h * width)

    args = {"steps": 1, "cfg": 1.0, "shape": shape, "scheduler": "simple"}
    ours = sample(installed(model, dict.fromkeys(names, rule)), words(1, *text), words(2, *text), **args)
    assert seen == [(1, heads, 8 + 16, d)] * len(names), seen
    assert all(block(name) for name in names)
    assert distance(ours, sample(model, words(1, *text), words(2, *text), **args)) > 1e-3


@slow
def test_blocks_of_flux_are_wide_as_flux() -> None:
    model = wide_model("Flux", FLUX | new_fields())
    check(model, ("double.0", "single.0"), (1, 16, 8, 8), (4096, 768), 24, 128)


@slow
def test_blocks_of_sd3_and_sd35_are_wide_as_theirs() -> None:
    for depth, more in ((24, {}), (24, {"qk_norm": "rms", "x_block_self_attn_layers": [0]}), (38, {"qk_norm": "rms"})):
        embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
        model = wide_model("SD3", {**SD3, "depth": depth, "context_embedder_config": embedder, **more})
        check(model, ("double.0", "double.1"), (1, 16, 8, 8), (4096, 2048), depth, 64)


@slow
def test_blocks_of_qwen_image_are_wide_as_qwen_image() -> None:
    check(wide_model("QwenImage", dict(QWEN)), ("double.0",), (1, 16, 1, 8, 8), (3584, 16), 24, 128)
