"""What the checks share: small models of the host's own classes, plans made by hand, runs through its samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

LOAD_SECONDS = 0.0  # set by run.py: processor time that loading the pack took
PACK: Any = None  # set by run.py: PACK["nodes.host.dci.branching"] is a module of the pack as the host loaded it

SMALL_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 3],
    "transformer_depth": [1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 128,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_heads": -1,
    "num_head_channels": 32,
}


def bare_small_model() -> Any:
    """The host's model of a small U-Net of the tiny family's layout, its weights still to be filled in."""
    import comfy.model_base
    import comfy.supported_models

    config = comfy.supported_models.SD15(dict(SMALL_UNET))
    config.set_inference_dtype(torch.float32, None)
    return comfy.model_base.BaseModel(config, device=torch.device("cpu"))


@cache
def small_weights(seed: int) -> tuple[Tensor, ...]:
    """Random weights for each parameter of that U-Net; norms are one, so attention shows."""
    generator, weights = torch.Generator().manual_seed(seed), []
    for name, parameter in bare_small_model().diffusion_model.named_parameters():
        weight = torch.zeros(parameter.shape)
        if parameter.ndim > 1:
            weight = torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5
        if "norm" in name or name.endswith(("in_layers.0.weight", "out_layers.0.weight", "out.0.weight")):
            weight.fill_(float(name.endswith("weight")))
        weights.append(weight)
    return tuple(weights)


def small_model(seed: int = 0) -> Any:
    """A new patcher around that U-Net. It passes for one that a concept was put on."""
    import comfy.model_patcher

    with torch.inference_mode(False), torch.no_grad():
        model = bare_small_model()
        for parameter, weight in zip(model.diffusion_model.parameters(), small_weights(seed), strict=True):
            parameter.copy_(weight)
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)
    patcher.set_attachments(f"{PACK['nodes.host.concept.apply'].CARRIED}lab", True)
    return patcher


def text(seed: int, length: int = 77, width: int = 128) -> Tensor:
    """Random text rows [1 length width]."""
    return torch.randn(1, length, width, generator=torch.Generator().manual_seed(seed))


def plan(auxiliary: Tensor, *, length: int = 77, pooled: Tensor | None = None) -> Any:
    """A plan whose concept stands in slots 2 to 4 of seven words, its stand-in in slot 2 of five."""
    tokens = PACK["dci_core.text.tokens"]
    concept = tokens.TokenSet((2, 3, 4), tuple(range(1, 8)), length)
    other = tokens.TokenSet((2,), tuple(range(1, 6)), auxiliary.shape[1])
    return PACK["nodes.host.dci.plan"].DciPlan("lab", auxiliary, pooled, tokens.PairTokens(concept, other))


def conditioning(rows: Tensor, made_for: Any = None, **options: Any) -> list[list[Any]]:
    """The host's conditioning of one text, with the plan's mark where a plan is given."""
    mark = {} if made_for is None else {PACK["nodes.host.dci.plan"].MARK: made_for.mark}
    return [[rows, {**mark, **options}]]


def apply(model: Any, made_plan: Any, family: str = "tiny", hints: str = "both", **settings: Any) -> tuple[Any, Any]:
    """(model with DCI, record)."""
    chosen = PACK["dci_core.dci.branches"].DciSettings(**settings)
    dbim = chosen.dbim(PACK["dci_core.families.table"].find_family(family))
    return PACK["nodes.host.dci.branching"].with_dci(
        model, PACK["nodes.host.dci.plan"].DciPatch(made_plan, chosen, dbim, hints)
    )


def sample(
    model: Any,
    positive: Any,
    negative: Any,
    *,
    steps: int = 6,
    cfg: float = 6.0,
    seed: int = 5,
    sampler: str = "euler",
    scheduler: str = "normal",
    shape: Sequence[int] = (1, 4, 16, 16),
    latent: Tensor | None = None,
    denoise: float = 1.0,
    mask: Tensor | None = None,
    callback: Callable[..., None] | None = None,
) -> Tensor:
    """The latent that the host's stock KSampler gives."""
    import comfy.sample

    latent = torch.zeros(*shape) if latent is None else latent
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, scheduler, positive, negative, latent, denoise=denoise, noise_mask=mask,
        callback=callback, disable_pbar=True, seed=seed,
    )  # fmt: skip


def counting_rows(model: Any) -> tuple[Any, list[int]]:
    """(the model, rows that reach the U-Net at each call), without a trace in its options."""
    rows: list[int] = []
    model.model.diffusion_model.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    return model, rows


def distance(a: Tensor, b: Tensor) -> float:
    """Relative L2 difference."""
    return float((a - b).norm() / b.norm())
