"""Thin models of the host's own MM-DiT classes with random weights, and rules made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from lab import PACK, conditioning
from torch import Tensor

FLUX = {
    "image_model": "flux", "in_channels": 4, "out_channels": 4, "vec_in_dim": 16, "context_in_dim": 24,
    "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 3, "axes_dim": [4, 10, 10],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
}  # fmt: skip
SD3 = {
    "in_channels": 4, "out_channels": None, "patch_size": 2, "depth": 2, "num_blocks": 4, "adm_in_channels": 16,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 24, "out_features": 128}},
    "qk_norm": "rms", "input_size": None, "x_block_self_attn_layers": [0, 1], "num_patches": 1024,
    "pos_embed_max_size": 32,
}  # fmt: skip
QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 3, "attention_head_dim": 24,
    "num_attention_heads": 2, "joint_attention_dim": 24, "axes_dims_rope": (4, 10, 10),
}  # fmt: skip
SIZES = {"flux": ((1, 4, 16, 16), FLUX), "sd3": ((1, 4, 16, 16), SD3), "qwen": ((1, 16, 1, 16, 16), QWEN)}
BLOCKS = {
    "flux": {"double": 2, "single": 3},
    "sd3": {"double": 4},
    "qwen": {"double": 3},
}


DEPTHS = {"flux": {"depth": 19, "depth_single_blocks": 38}, "sd3": {"num_blocks": 24}, "qwen": {"num_layers": 60}}


@cache
def thin_model(name: str, sharp: float = 1.0, is_deep: bool = False, weights: torch.dtype = torch.float32) -> Any:
    """A patcher around a thin model: "flux", "sd3" or "qwen". Norm weights are one, or `sharp`, so that attention
    shows. Deep ones have as many blocks as Flux, SD3 and Qwen-Image.
    """
    from comfy import model_base, model_patcher, supported_models

    base = {"flux": ("Flux", "Flux"), "sd3": ("SD3", "SD3"), "qwen": ("QwenImage", "QwenImage")}[name]
    sizes = {**SIZES[name][1], **(DEPTHS[name] if is_deep else {})}
    if name == "flux":
        sizes |= new_fields()
    config = getattr(supported_models, base[0])(sizes)
    config.set_inference_dtype(weights, None if weights == torch.float32 else torch.float32)
    with torch.inference_mode(False), torch.no_grad():
        model = getattr(model_base, base[1])(config, device=torch.device("cpu"))
        fill(model.diffusion_model, sharp)
        form = model.latent_format
        form.latent_channels = sizes["out_channels"] or sizes["in_channels"]
    cpu = torch.device("cpu")
    return model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def new_fields() -> dict[str, Any]:
    """What newer hosts ask for besides."""
    from comfy.ldm.flux.model import FluxParams

    return {"txt_ids_dims": []} if "txt_ids_dims" in {field.name for field in dataclasses.fields(FluxParams)} else {}


def fill(network: Any, sharp: float) -> None:
    """Small random weights, norm weights `sharp`."""
    source = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        is_norm = name.endswith(("norm.weight", "norm.scale", "ln_q.weight", "ln_k.weight")) or "norm_" in name
        if is_norm and parameter.ndim == 1:
            parameter.fill_(sharp)
        else:
            fan = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_((torch.randn(parameter.shape, generator=source) * fan**-0.5).to(parameter.dtype))
    for name, buffer in network.named_buffers():
        if "pos_embed" in name:
            buffer.copy_(torch.randn(buffer.shape, generator=source) * 0.1)


def words(seed: int, length: int = 6) -> Any:
    """A conditioning with everything that the three families read."""
    source = torch.Generator().manual_seed(seed)
    rows, pooled = torch.randn(1, length, 24, generator=source), torch.randn(1, 16, generator=source)
    return conditioning(rows, pooled_output=pooled, guidance=3.0)


def block(name: str) -> Any:
    """The block of that name, such as `double.1`."""
    stream, _, index = name.partition(".")
    return PACK["dci_core.attention.joint"].BlockId(stream, int(index))


def all_blocks(name: str) -> list[Any]:
    """Every block of a thin model, in order."""
    return [block(f"{stream}.{index}") for stream, count in BLOCKS[name].items() for index in range(count)]


def installed(
    model: Any, rules: dict[str, Any], place: str = "attention", image_first: Sequence[str] = (), **more: Any
) -> Any:
    """The model with rules by block name, put in around each model call, every row reading."""
    joint, mmdit = PACK["nodes.host.attention.joint"], PACK["nodes.host.families.mmdit"]
    clone = model.clone()

    def wrapper(executor: Any, x: Tensor, t: Tensor, c: Any, cc: Any, control: Any, options: Any, **kw: Any) -> Tensor:
        frame = joint.CallFrame(mmdit.token_grid(executor.class_obj, *x.shape[-2:]), torch.ones(x.shape[0]))
        sites = {block(name): joint.Site(((rule, place),), name in image_first, **more) for name, rule in rules.items()}
        return executor(x, t, c, cc, control, joint.with_sites(options or {}, frame, sites), **kw)

    clone.add_wrapper_with_key("apply_model", "lab_joint", wrapper)
    return clone


def noting(calls: list[Any]) -> Callable[[Any], None]:
    """A rule that adds nothing and keeps what it is told."""

    def rule(call: Any) -> None:
        calls.append(call)

    return rule


class LabAdapter:
    """Random keys and values of the right shapes for a thin model, with the face of a `HostAdapter`."""

    def __init__(self, name: str, place: str = "attention", seed: int = 0, of_text: bool = True) -> None:
        self.name, self.place, self.seed, self.of_text = name, place, seed, of_text
        self.blocks = frozenset(all_blocks(name))
        self.asked = 0

    def check_family(self, family: Any) -> None:
        """Every family fits."""

    def keys_and_values(self, tokens: Tensor, device: Any, dtype: Any) -> dict[Any, Any]:
        """Random rows; the tokens only have to be there."""
        self.asked += 1
        source = torch.Generator().manual_seed(self.seed)
        heads, d = 2, 64 if self.name == "sd3" else 24
        pair = lambda: tuple(torch.randn(1, heads, 4, d, generator=source).to(device, dtype) for _ in range(2))  # noqa: E731
        kinds = {key: (pair(), pair() if self.of_text else None) for key in sorted(self.blocks)}
        made = PACK["dci_core.dynaip.decoupled"].BlockKV
        return {key: made(image, text) for key, (image, text) in kinds.items()}


def family_of_lab(name: str) -> None:
    """Makes a thin model's sizes known as a family of the lab."""
    families = PACK["dci_core.families.mmdit"]
    width, heads = {"flux": (48, 2), "sd3": (128, 2), "qwen": (48, 2)}[name]
    families.FAMILIES[f"lab_{name}"] = families.MmditFamily(f"lab_{name}", width, heads, BLOCKS[name])


def prompted(name: str, model: Any = None, adapter: Any = None, noun: Any = None, **subject: Any) -> tuple[Any, Any]:
    """(thin model that reads one more subject, record)."""
    family_of_lab(name)
    prompting, readings = PACK["nodes.host.dynaip.prompting"], PACK["nodes.host.dynaip.readings"]
    settings = PACK["dci_core.dynaip.subject"].Subject(**subject)
    reference = readings.HeldReference(adapter or LabAdapter(name), torch.zeros(1, 4, 8), settings, noun)
    return prompting.with_reference(thin_model(name) if model is None else model, reference)
