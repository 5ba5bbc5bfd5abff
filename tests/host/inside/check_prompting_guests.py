"""Subjects beside what other nodes and packs put on a model: eight bits, ControlNet, LoRA, foreign replacements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from check_joint import FAMILIES, foreign_attention, foreign_block, outlets_of, run
from lab import PACK, distance, sample
from mmdit_lab import SIZES, all_blocks, block, prompted, thin_model, words
from torch import Tensor


def test_a_base_of_eight_bits_reads_in_its_own_precision() -> None:
    for name in FAMILIES:
        plain = thin_model(name, weights=torch.float8_e4m3fn)
        assert plain.model.get_dtype() == torch.float8_e4m3fn
        model, record = prompted(name, plain)
        drawn = run(name, model, cfg=4.0)
        assert drawn.isfinite().all() and len(record.strengths) == 2 * len(all_blocks(name))
        assert distance(drawn, run(name, plain, cfg=4.0)) > 1e-3


def with_control(name: str) -> Any:
    """The positive conditioning with a ControlNet that gives a fixed hint for every block of the image stream."""
    from comfy.controlnet import ControlBase

    class Fixed(ControlBase):  # type: ignore[misc]
        def get_control(self, x: Tensor, *args: Any, **kwargs: Any) -> dict[str, list[Tensor]]:
            width = 128 if name == "sd3" else 48
            hint = torch.randn(1, 64, width, generator=torch.Generator().manual_seed(7)).expand(x.shape[0], -1, -1)
            return {"input": [hint] * 4, "output": [hint] * 4}

    return [[rows, {**entry, "control": Fixed(), "control_apply_to_uncond": False}] for rows, entry in words(1)]


def test_a_controlnet_and_a_subject_both_act() -> None:
    for name in FAMILIES:
        model, args = prompted(name)[0], {"steps": 2, "cfg": 1.0, "shape": SIZES[name][0], "scheduler": "simple"}
        both = sample(model, with_control(name), words(2), **args)
        assert distance(both, sample(model, words(1), words(2), **args)) > 1e-3
        assert distance(both, sample(thin_model(name), with_control(name), words(2), **args)) > 1e-3


def with_lora(name: str, model: Any) -> Any:
    """The model with a strong change of one weight behind its attention."""
    clone = model.clone()
    outlet = outlets_of(name, block("double.1"))["image"]
    path = next(path for path, each in clone.model.named_modules() if each is outlet)
    change = torch.randn(outlet.weight.shape, generator=torch.Generator().manual_seed(6)) * 0.2
    assert clone.add_patches({f"{path}.weight": ("diff", (change,))}, 1.0)
    return clone


def test_guests_of_every_kind_act_beside_ours_whichever_came_first() -> None:
    guests: dict[str, Callable[[str, Any], Any]] = {
        "block": lambda name, model: foreign_block(model, ("double_block", 1)),
        "attention": lambda name, model: foreign_attention(model, []),
        "lora": with_lora,
    }
    for name in FAMILIES:
        for kind, guest in guests.items():
            plain, ours = thin_model(name), prompted(name)[0]
            first, second = run(name, prompted(name, guest(name, plain))[0]), run(name, guest(name, ours))
            assert distance(first, second) < 1e-6, (name, kind)
            assert distance(first, run(name, ours)) > 1e-4, (name, kind)
            assert distance(first, run(name, guest(name, plain))) > 1e-4, (name, kind)


def with_own_forward(model: Any) -> Any:
    """A guest that runs the model's blocks itself, as caches for one architecture do: no replacement is asked."""
    clone, whole = model.clone(), model.model.diffusion_model.forward

    def bare(value: Any) -> Any:
        is_options = isinstance(value, dict) and "patches_replace" in value
        return {key: part for key, part in value.items() if key != "patches_replace"} if is_options else value

    def forward(*args: Any, **kwargs: Any) -> Any:
        return whole(*map(bare, args), **{key: bare(value) for key, value in kwargs.items()})

    clone.add_object_patch("diffusion_model.forward", forward)
    return clone


def with_own_blocks(model: Any) -> Any:
    """A guest that asks a block's replacement and then runs the block without the options that it is given."""
    clone, kept = model.clone(), model.model.diffusion_model.forward

    def deaf(slot: Any) -> Any:
        def replace(args: dict[str, Any], extra: dict[str, Any]) -> Any:
            block = extra["original_block"]
            given = args.get("transformer_options")
            own = lambda now: block({**now, "transformer_options": given})  # noqa: E731
            return slot(args, {**extra, "original_block": own})

        return replace

    def hidden(value: Any) -> Any:
        if not (isinstance(value, dict) and "patches_replace" in value):
            return value
        slots = {key: deaf(slot) for key, slot in value["patches_replace"].get("dit", {}).items()}
        return {**value, "patches_replace": {**value["patches_replace"], "dit": slots}}

    def forward(*args: Any, **kwargs: Any) -> Any:
        return kept(*map(hidden, args), **{key: hidden(value) for key, value in kwargs.items()})

    clone.add_object_patch("diffusion_model.forward", forward)
    return clone


def test_a_subject_whose_blocks_are_run_without_what_they_are_given_is_told() -> None:
    for name in FAMILIES:
        model, record = prompted(name)
        assert torch.equal(run(name, with_own_blocks(model)), run(name, thin_model(name))), name
        assert len(record.warnings) == 1 and not record.strengths, name


def test_a_subject_that_no_block_reads_is_told_once() -> None:
    heard: list[list[str]] = []
    for name in FAMILIES:
        model, record = prompted(name)
        record.on_warning = lambda run: heard.append(list(run.warnings))
        run(name, model)
        assert not heard and record.strengths
        assert torch.equal(run(name, with_own_forward(model)), run(name, with_own_forward(thin_model(name)))), name
        assert len(heard) == 1 and "TeaCache" in heard[0][0] and not record.strengths, name
        heard.clear()
        run(name, model)
        assert not record.warnings and record.strengths


def test_a_subject_and_a_concept_are_drawn_alike_in_either_order_of_their_nodes() -> None:
    from check_flux_concepts import drawn, family, parts

    own, plan = parts("flux")[0], parts("flux")[2]

    def with_dci(model: Any, guidance: str, region: Any = None) -> tuple[Any, Any]:
        chosen = PACK["dci_core.dci.branches"].DciSettings(guidance=guidance, window=0.3, region=region)
        patch = PACK["nodes.host.dci.plan"].DciPatch(plan, chosen, chosen.dbim(family("flux")))
        return PACK["nodes.host.dci.branching"].with_dci(model, patch)

    reading = prompted("flux", own)[0]
    alone = drawn("flux", reading)
    assert distance(alone, drawn("flux", own)) > 1e-2
    for guidance in ("aligned", "shared", "separate"):
        black = torch.zeros(4, 4)
        assert distance(drawn("flux", with_dci(reading, guidance, black)[0]), alone) < 2e-5
        assert distance(drawn("flux", prompted("flux", with_dci(own, guidance, black)[0])[0]), alone) < 2e-5
        both, record = with_dci(reading, guidance)
        behind = drawn("flux", both)
        assert {layer for _, layer in record.weights} == set(family("flux").layers)
        before = drawn("flux", prompted("flux", with_dci(own, guidance)[0])[0])
        assert distance(behind, alone) > 1e-3 and distance(before, behind) < 2e-5
