"""What an adapter is trained on is what it is used on: FLUX.1's transformer of the core against the host's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from check_fullwidth import FLUX as WIDE
from check_fullwidth import wide_model
from check_fullwidth import words as wide_words
from lab import PACK, distance, sample
from marks import slow
from mmdit_lab import FLUX as THIN
from mmdit_lab import new_fields, prompted, thin_model, words
from torch import Tensor

GUIDANCE = 3.0
Look = list[tuple[Tensor, Tensor, Tensor]]


def core_flux(network: Any, **sizes: Any) -> Any:
    """The core's transformer on the very tensors of a host's network."""
    folder, layers = PACK["dci_core.flux.folder"], PACK["dci_core.flux.layers"]
    newer = {f"{kind}_norm.weight": f"{kind}_norm.scale" for kind in ("query", "key")}
    tensors = {
        next((name.replace(new, old) for new, old in newer.items() if name.endswith(new)), name): x
        for name, x in network.state_dict().items()
    }
    params = layers.FluxParams(**sizes) if sizes else folder.sizes_of(tensors)
    with torch.device("meta"):
        core = PACK["dci_core.flux.transformer"].MMDiT(params)
    core.load_state_dict(tensors, strict=True, assign=True)
    return core.eval()


def trained_adapter(family: str, **sizes: Any) -> Any:
    """An adapter that adds something in every block."""
    adapter = PACK["dci_core.dynaip.adapter"]
    with torch.inference_mode(False), torch.random.fork_rng(devices=()):
        torch.manual_seed(7)
        small = {"expert_depth": 1, "expert_width": 8, "expert_heads": 2, "router_width": 4, "token_width": 8}
        params = adapter.AdapterParams(family, 16, 3, levels=(1, 3), tokens=4, **small, **sizes)
        core = adapter.Adapter(params).eval().requires_grad_(False)
        for name, parameter in core.named_parameters():
            if "to_v" in name:
                parameter.normal_(std=0.5)
    return core


def host_steps(model: Any, text: Any, shape: tuple[int, ...]) -> Look:
    """(input, noise level, clean estimate) of each of two steps."""
    seen: Look = []
    clone = model.clone()

    def look(args: dict[str, Any]) -> Tensor:
        seen.append((args["input"].clone(), args["sigma"].clone(), args["denoised"].clone()))
        return args["denoised"]

    clone.set_model_sampler_post_cfg_function(look)
    sample(clone, text, text, steps=2, cfg=1.0, shape=shape, scheduler="simple")
    return seen


def core_estimate(core: Any, rule: Any, x: Tensor, sigma: Tensor, text: Any) -> Tensor:
    """The clean estimate by the core's transformer, every row reading."""
    rows, more = text[0]
    hook = None if rule is None else PACK["dci_core.flux.blocks"].Hook(rule, torch.ones(len(x)))
    guidance = torch.full((len(x),), more.get("guidance", GUIDANCE))
    velocity = core(x, sigma, rows, more["pooled_output"], hook, guidance=guidance)
    return x - sigma[:, None, None, None] * velocity


def compare(model: Any, core: Any, adapter: Any, text: Any, shape: tuple[int, ...], text_scale: float) -> None:
    """Host and core agree with a reference and without one, and the reference shows."""
    subject = PACK["dci_core.dynaip.subject"].Subject(text_scale=text_scale)
    tokens = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(9))
    held = PACK["nodes.host.dynaip.readings"].HeldReference(
        PACK["nodes.host.dynaip.adapters"].HostAdapter("trained", adapter), tokens, subject
    )
    reading, _ = PACK["nodes.host.dynaip.prompting"].with_reference(model, held)
    kvs = {block: adapter.kv(block, tokens) for block in adapter.params.block_ids}
    rule = PACK["dci_core.dynaip.decoupled"].image_prompt_rule([kvs], [subject])
    for patched, own in ((model, None), (reading, rule)):
        for x, sigma, estimate in host_steps(patched, text, shape):
            ours = core_estimate(core, own, x, sigma, text)
            assert distance(ours, estimate) < 1e-4, (text_scale, distance(ours, estimate))
            if own is not None:
                assert distance(core_estimate(core, None, x, sigma, text), estimate) > 1e-3


def test_the_transformer_that_trains_an_adapter_draws_with_it_as_the_hosts_flux_does() -> None:
    prompted("flux")  # makes the thin sizes known as a family
    model = thin_model("flux")
    core = core_flux(
        model.model.diffusion_model, channels=4, text_width=24, vector_width=16, width=48, heads=2, mlp_ratio=2,
        double_blocks=THIN["depth"], single_blocks=THIN["depth_single_blocks"], axes=tuple(THIN["axes_dim"]),
    )  # fmt: skip
    for text_scale in (0.0, 1.0):
        compare(model, core, trained_adapter("lab_flux"), words(1), (1, 4, 16, 16), text_scale)


def test_the_transformer_hears_its_guidance_as_the_hosts_does() -> None:
    model = thin_model("flux")
    core = core_flux(
        model.model.diffusion_model, channels=4, text_width=24, vector_width=16, width=48, heads=2, mlp_ratio=2,
        double_blocks=2, single_blocks=3, axes=(4, 10, 10),
    )  # fmt: skip
    ((rows, more),) = words(1)
    louder = [[rows, {**more, "guidance": 9.0}]]
    for x, sigma, estimate in host_steps(model, louder, (1, 4, 16, 16)):
        assert distance(core_estimate(core, None, x, sigma, louder), estimate) < 1e-4
        assert distance(core_estimate(core, None, x, sigma, words(1)), estimate) > 1e-4


@slow
def test_blocks_of_flux_width_agree_too_and_tell_their_sizes() -> None:
    families = PACK["dci_core.families.mmdit"]
    wide = families.MmditFamily("lab_wide", 3072, 24, {"double": 1, "single": 1})
    families.FAMILIES["lab_wide"] = wide
    model = wide_model("Flux", WIDE | new_fields())
    core = core_flux(model.model.diffusion_model)
    assert core.params == replace(type(core.params)(), double_blocks=1, single_blocks=1)
    ((rows, more),) = wide_words(1, 4096, 768)
    compare(model, core, trained_adapter("lab_wide"), [[rows, {**more, "guidance": GUIDANCE}]], (1, 16, 8, 8), 1.0)
