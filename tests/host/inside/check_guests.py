"""Other packs and other nodes on the same model: attention replacements, LoRA, ControlNet, areas, custom samplers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from lab import PACK, SMALL_UNET, apply, conditioning, distance, plan, sample, small_model, text
from torch import Tensor

NEGATIVE = conditioning(text(3))


def made() -> tuple[Any, Any, Any]:
    """(model, plan, the pair's conditioning)."""
    pair = plan(text(2))
    return small_model(), pair, conditioning(text(1), pair)


def foreign(model: Any, seen: list[Any], only: Callable[[Tensor], Tensor] = lambda out: out) -> Any:
    """The model with another pack's replacement in its middle block, which notes the chunks it is told of."""
    from comfy.ldm.modules.attention import optimized_attention

    def replace(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        seen.append((q.shape[0], tuple(extra["cond_or_uncond"])))
        return only(optimized_attention(q, k, v, extra["n_heads"]))

    clone = model.clone()
    clone.set_model_attn2_replace(replace, "middle", 0, 0)
    return clone


def test_a_foreign_replacement_runs_before_and_after_ours() -> None:
    model, pair, positive = made()
    seen: list[Any] = []
    half = lambda out: out * 0.5  # noqa: E731
    under, _ = apply(foreign(model, seen, half), pair, window=0.5)
    over = foreign(apply(model, pair, window=0.5)[0], seen, half)
    alone, _ = apply(model, pair, window=0.5)
    first, second, without = (sample(m, positive, NEGATIVE) for m in (under, over, alone))
    assert torch.equal(first, second)
    assert distance(first, without) > 1e-4


def test_a_foreign_replacement_is_told_as_many_chunks_as_fit_its_rows() -> None:
    model, pair, positive = made()
    for guidance in ("shared", "separate"):
        seen: list[Any] = []
        patched, _ = apply(foreign(model, seen), pair, window=0.5, guidance=guidance)
        sample(patched, positive, NEGATIVE, shape=(2, 4, 16, 16))
        assert seen and all(rows % len(chunks) == 0 for rows, chunks in seen), seen
    plain: list[Any] = []
    sample(foreign(model, plain), positive, NEGATIVE, shape=(2, 4, 16, 16))
    assert seen[-1] == plain[-1]


def with_lora(model: Any) -> Any:
    """The model with a strong LoRA on its middle values."""
    clone = model.clone()
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    shape = model.model.state_dict()[key].shape
    change = torch.randn(shape, generator=torch.Generator().manual_seed(6)) * 0.2
    assert clone.add_patches({key: ("diff", (change,))}, 1.0)
    return clone


def test_a_lora_before_or_after_gives_the_same_picture() -> None:
    model, pair, positive = made()
    before, _ = apply(with_lora(model), pair, window=0.5)
    after = with_lora(apply(model, pair, window=0.5)[0])
    first, second = sample(before, positive, NEGATIVE), sample(after, positive, NEGATIVE)
    assert distance(first, second) < 1e-6
    assert distance(first, sample(apply(model, pair, window=0.5)[0], positive, NEGATIVE)) > 1e-4


def small_controlnet() -> Any:
    """A ControlNet of random weights that fits the small model."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    names = ("transformer_depth_output", "out_channels")
    sizes = {name: value for name, value in SMALL_UNET.items() if name not in names} | {"num_heads": 8}
    sizes["num_head_channels"] = -1
    network = comfy.cldm.cldm.ControlNet(
        **sizes, hint_channels=3, operations=comfy.ops.manual_cast, dtype=torch.float32
    )
    source = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.copy_(torch.randn(parameter.shape, generator=source) * scale)
    return comfy.controlnet.ControlNet(network.eval(), load_device=torch.device("cpu"))


def controlled(positive: Any, hint: Tensor) -> tuple[Any, Any]:
    """(positive, negative) with the ControlNet, by the host's own node."""
    import nodes

    return nodes.ControlNetApplyAdvanced().apply_controlnet(positive, NEGATIVE, small_controlnet(), hint, 1.0, 0.0, 1.0)


def test_a_controlnet_reaches_the_branch_that_it_is_meant_for() -> None:
    model, pair, positive = made()
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(9))
    given = controlled(positive, hint)
    runs = {to: apply(model, pair, window=0.5, guidance="aligned", hints=to) for to in ("both", "concept", "auxiliary")}
    out = {to: sample(patched, *given) for to, (patched, _) in runs.items()}
    free = sample(apply(model, pair, window=0.5, guidance="aligned")[0], positive, NEGATIVE)
    pairs = [(a, b) for a in out for b in out if a < b]
    assert all(distance(out[a], out[b]) > 1e-4 for a, b in pairs)
    assert all(distance(x, free) > 1e-4 for x in out.values())


def test_each_picture_of_a_batch_keeps_its_own_hint() -> None:
    model, pair, positive = made()
    hints = torch.rand(2, 128, 128, 3, generator=torch.Generator().manual_seed(9))
    patched, _ = apply(model, pair, window=0.5, guidance="aligned")
    latent = text(9, 16, 64).reshape(1, 4, 16, 16).repeat(2, 1, 1, 1)
    both = sample(patched, *controlled(positive, hints), latent=latent)
    swapped = sample(patched, *controlled(positive, hints.flip(0)), latent=latent)
    once = sample(patched, *controlled(positive, hints[:1]), latent=latent)
    assert distance(both[:1], once[:1]) < 1e-5
    assert distance(both[1:], once[1:]) > 1e-4
    assert distance(swapped[1:], once[1:]) < 1e-5


def test_a_second_area_takes_part_without_an_auxiliary_of_its_own() -> None:
    model, pair, positive = made()
    area = conditioning(text(4), area=(8, 16, 0, 0), strength=1.0)
    patched, record = apply(model, pair, window=0.5)
    out = sample(patched, positive + area, NEGATIVE)
    assert out.isfinite().all() and record.weights
    assert distance(out, sample(patched, positive, NEGATIVE)) > 1e-4


def refused(words: str, run: Callable[[], Any]) -> None:
    """Asserts that this is refused with a sentence that holds these words."""
    try:
        run()
    except PACK["dci_core.errors"].PackError as error:
        assert words in str(error), error
    else:
        raise AssertionError("no error")


def test_boxes_of_gligen_are_refused_in_one_sentence() -> None:
    model, pair, positive = made()
    boxed = [[positive[0][0], {**positive[0][1], "gligen": ("position", None, [])}]]
    patched, _ = apply(model, pair, window=0.5)
    refused("GLIGEN", lambda: sample(patched, boxed, NEGATIVE))


def test_each_picture_of_a_batch_keeps_its_own_region_with_one_text_and_with_two() -> None:
    model, pair, positive = made()
    sides = torch.zeros(2, 16, 16)
    sides[0, :, :8] = 1
    both = {"latent": torch.zeros(1, 4, 16, 16).repeat(2, 1, 1, 1)}
    patched, _ = apply(model, pair, window=0.5, guidance="separate", region=sides)
    nowhere, _ = apply(model, pair, window=0.5, guidance="separate", region=torch.zeros(16, 16))
    for texts in (positive, [*positive, *conditioning(text(1), pair)]):
        out, plain = sample(patched, texts, NEGATIVE, **both), sample(nowhere, texts, NEGATIVE, **both)
        assert distance(out[1], plain[1]) < 1e-5 and distance(out[0], plain[0]) > 1e-4
    odd, _ = apply(model, pair, window=0.5, region=torch.ones(3, 16, 16))
    refused("3 masks", lambda: sample(odd, positive, NEGATIVE, **both))


def test_a_base_of_eight_bits_is_sampled_with() -> None:
    from check_tiny import host_parts
    from strangers import fp8_model

    _, positive, plan_of_pair, negative = host_parts()
    model, args = fp8_model(), {"steps": 3, "shape": (1, 8, 16, 16)}
    assert model.model.get_dtype() == torch.float8_e4m3fn
    patched, _ = apply(model, plan_of_pair, window=0.5)
    out = sample(patched, positive, negative, **args)
    assert out.isfinite().all() and distance(out, sample(model, positive, negative, **args)) > 1e-3


def test_the_custom_sampler_is_the_stock_sampler() -> None:
    import comfy.sample
    import comfy.samplers

    model, pair, positive = made()
    patched, _ = apply(model, pair, window=0.5)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 6)
    latent = torch.zeros(1, 4, 16, 16)
    noise = comfy.sample.prepare_noise(latent, 5)
    euler = comfy.samplers.sampler_object("euler")
    custom = comfy.sample.sample_custom(
        patched, noise, 6.0, euler, sigmas, positive, NEGATIVE, latent, disable_pbar=True, seed=5
    )
    assert torch.equal(custom, sample(patched, positive, NEGATIVE))


def test_a_cancelled_run_leaves_the_model_ready_for_the_next() -> None:
    model, pair, positive = made()
    patched, _ = apply(model, pair, window=0.5)
    whole = sample(patched, positive, NEGATIVE)

    class Cancelled(BaseException):
        pass

    def stop(step: int, *args: Any) -> None:
        if step == 2:
            raise Cancelled

    with suppress(Cancelled):
        sample(patched, positive, NEGATIVE, callback=stop)
    assert torch.equal(sample(patched, positive, NEGATIVE), whole)
    assert not model.wrappers


def test_a_run_without_added_noise_adds_none_to_the_auxiliary() -> None:
    import comfy.sample

    model, pair, positive = made()
    patched, record = apply(model, pair, window=1.0, guidance="separate")
    latent = text(9, 16, 64).reshape(1, 4, 16, 16)
    args = (6, 1.0, "euler", "normal", positive, positive, latent)
    comfy.sample.sample(patched, torch.zeros_like(latent), *args, disable_pbar=True, seed=5)
    first = record.final_auxiliary.clone()
    comfy.sample.sample(patched, torch.zeros_like(latent), *args, disable_pbar=True, seed=6)
    assert torch.equal(first, record.final_auxiliary)


def test_a_controlnet_computes_no_row_that_the_unet_does_not() -> None:
    import comfy.cldm.cldm

    model, pair, positive = made()
    given = controlled(positive, torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(9)))
    rows: list[int] = []
    network = comfy.cldm.cldm.ControlNet
    kept = network.forward

    def count(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows.append(x.shape[0])
        return kept(self, x, *args, **kwargs)

    network.forward = count
    try:
        for hints, wanted in (("both", [3, 3, 2]), ("concept", [2, 2, 2]), ("auxiliary", [1, 1])):
            rows.clear()
            sample(apply(model, pair, window=0.6, hints=hints)[0], *given, steps=3)
            assert rows == wanted, (hints, rows)
    finally:
        network.forward = kept
