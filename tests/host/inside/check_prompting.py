"""Image prompts on the host's own sampling: off is off, an effect where there should be one, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from check_joint import FAMILIES, outlets_of, run
from lab import PACK, distance, sample
from mmdit_lab import SIZES, LabAdapter, all_blocks, block, installed, noting, prompted, thin_model, words
from torch import Tensor


def test_every_block_of_every_family_reads_in_every_step() -> None:
    for name in FAMILIES:
        model, record = prompted(name)
        drawn = run(name, model, cfg=4.0)
        sigmas = {sigma for sigma, _, _ in record.strengths}
        assert len(sigmas) == 2 and len(record.strengths) == 2 * len(all_blocks(name)), name
        assert {key for _, key, _ in record.strengths} == set(all_blocks(name))
        assert all(planes.shape == (1, 8, 8) for planes in record.strengths.values())
        assert distance(drawn, run(name, thin_model(name), cfg=4.0)) > 1e-3


def test_what_is_off_installs_nothing_and_changes_no_bit() -> None:
    for off in ({"scale": 0.0}, {"start": 0.5, "end": 0.5}, {"region": torch.zeros(8, 8)}, {"blocks": frozenset()}):
        for name in FAMILIES:
            model, _ = prompted(name, **off)
            assert not any(model.wrappers.values()) and not model.attachments
            assert torch.equal(run(name, model), run(name, thin_model(name)))


@contextmanager
def inputs_of(module: Any) -> Iterator[list[Tensor]]:
    """What reaches a module meanwhile."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
    try:
        yield seen
    finally:
        handle.remove()


def reaching(name: str, part: str, model: Any, at: str = "double.0") -> Tensor:
    """What the projection of a stream gets in the first call of the model."""
    with inputs_of(outlets_of(name, block(at))[part]) as seen:
        run(name, model, steps=1)
    return seen[0]


def test_text_rows_read_as_far_as_the_text_scale_says_and_image_rows_do_not_care() -> None:
    for name in FAMILIES:
        plain = thin_model(name)
        texts, pictures = (
            [reaching(name, part, prompted(name, text_scale=scale)[0]) for scale in (0.0, 0.5, 1.0)]
            for part in ("text", "image")
        )
        base = reaching(name, "text", plain)
        assert torch.equal(texts[0], base)
        assert distance(texts[1] - base, (texts[2] - base) / 2) < 1e-5 and distance(texts[2], base) > 1e-3
        assert torch.equal(pictures[0], pictures[2]) and distance(pictures[0], reaching(name, "image", plain)) > 1e-3
        later = [run(name, prompted(name, text_scale=scale)[0]) for scale in (0.0, 1.0)]
        assert distance(*later) > 1e-4


def test_text_rows_of_single_blocks_stay_as_they_are() -> None:
    last = "single.0"
    only = frozenset({block(last)})
    plain, drawn, both = (
        reaching("flux", "both", model, last)[..., :48]
        for model in (
            thin_model("flux"),
            prompted("flux", blocks=only)[0],
            prompted("flux", blocks=only, text_scale=1.0)[0],
        )
    )
    assert torch.equal(drawn[:, :6], plain[:, :6]) and distance(drawn[:, 6:], plain[:, 6:]) > 1e-3
    assert distance(both[:, :6], plain[:, :6]) > 1e-3


def uncond_of(name: str, model: Any, **options: Any) -> Tensor:
    """The first step's unconditional estimate."""
    kept: list[Tensor] = []
    clone = model.clone()

    def look(args: dict[str, Any]) -> Tensor:
        kept.append(args["uncond_denoised"].clone())
        return args["denoised"]

    clone.set_model_sampler_post_cfg_function(look)
    run(name, clone, cfg=4.0, steps=1, **options)
    return kept[0]


def test_negative_rows_never_read() -> None:
    for name in FAMILIES:
        shape = (2, *SIZES[name][0][1:])
        model = prompted(name, text_scale=1.0)[0]
        assert torch.equal(uncond_of(name, model, shape=shape), uncond_of(name, thin_model(name), shape=shape))


def test_a_dual_guider_whose_numbers_start_with_the_negative_leaves_it_alone_too() -> None:
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    class Looking(Guider_DualCFG):  # type: ignore[misc]
        def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = {}, seed: Any = None) -> Tensor:  # noqa: B006
            from comfy.samplers import calc_cond_batch

            conds = [self.conds[name] for name in ("negative", "middle", "positive")]
            self.seen = calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
            return super().predict_noise(x, timestep, model_options, seed)

    def estimates(model: Any) -> list[Tensor]:
        import comfy.samplers

        guider = Looking(model)
        guider.set_conds(words(1), words(3), words(2))
        guider.set_cfg(3.0, 2.0)
        sampler = comfy.samplers.sampler_object("euler")
        shape = SIZES["flux"][0]
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        guider.sample(noise, torch.zeros(shape), sampler, torch.tensor([1.0, 0.0]), seed=1, disable_pbar=True)
        return guider.seen

    ours, plain = estimates(prompted("flux")[0]), estimates(thin_model("flux"))
    assert distance(ours[0], plain[0]) < 1e-6
    assert distance(ours[1], plain[1]) > 1e-3 and distance(ours[2], plain[2]) > 1e-3


def test_a_batch_reads_row_by_row_as_one_picture_does() -> None:
    for name in FAMILIES:
        model, shape = prompted(name)[0], SIZES[name][0]
        latent = torch.zeros(shape)
        for cfg in (1.0, 4.0):
            two = run(name, model, latent=latent.repeat(2, *[1] * (len(shape) - 1)), cfg=cfg)
            assert distance(two[:1], run(name, model, latent=latent, cfg=cfg)) < 1e-5
            assert distance(two[1:], two[:1]) > 1e-3


def counting_calls(model: Any) -> tuple[Any, list[int]]:
    """(clone, rows of each model call); SD3's network has no wrappers of its own."""
    rows: list[int] = []
    clone = model.clone()

    def count(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rows.append(x.shape[0])
        return executor(x, *args, **kwargs)

    clone.add_wrapper_with_key("apply_model", "lab_count", count)
    return clone, rows


def test_conds_that_memory_splits_give_the_same_picture() -> None:
    for name in FAMILIES:
        model = prompted(name)[0]
        whole = run(name, model, cfg=4.0)
        split, rows = counting_calls(model)
        kind = type(model.model)
        kept = kind.memory_required
        kind.memory_required = lambda self, *args, **kwargs: 1e30
        try:
            assert distance(run(name, split, cfg=4.0), whole) < 1e-5
        finally:
            kind.memory_required = kept
        assert set(rows) == {1}


def test_two_subjects_with_complementary_regions_make_one_without() -> None:
    side = torch.zeros(64, 64)
    side[:, :32] = 1
    for name in FAMILIES:
        adapter = LabAdapter(name)
        one = prompted(name, adapter=adapter)[0]
        two = prompted(name, prompted(name, adapter=adapter, region=side)[0], adapter, region=1 - side)[0]
        half = prompted(name, adapter=adapter, region=side)[0]
        assert distance(run(name, two), run(name, one)) < 1e-5
        assert distance(run(name, half), run(name, one)) > 1e-3
        other = LabAdapter(name, seed=5)
        mixed = prompted(name, prompted(name, adapter=adapter, region=side)[0], other, region=1 - side)[0]
        assert distance(run(name, mixed), run(name, one)) > 1e-3


def test_rows_outside_of_a_region_get_nothing() -> None:
    side = torch.zeros(8, 8)
    side[:, :4] = 1
    for name in FAMILIES:
        ours = reaching(name, "image", prompted(name, region=side)[0]).unflatten(1, (8, 8))
        plain = reaching(name, "image", thin_model(name)).unflatten(1, (8, 8))
        assert torch.equal(ours[:, :, 4:], plain[:, :, 4:]) and distance(ours[:, :, :4], plain[:, :, :4]) > 1e-3


def test_reference_latents_never_read() -> None:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    model = prompted("flux")[0]
    with inputs_of(outlets_of("flux", block("double.0"))["image"]) as seen:
        run("flux", model, reference=latents, steps=1)
        run("flux", thin_model("flux"), reference=latents, steps=1)
    ours, plain = seen
    assert ours.shape[1] == 128 and torch.equal(ours[:, 64:], plain[:, 64:])
    assert distance(ours[:, :64], plain[:, :64]) > 1e-3


def test_the_schedule_opens_and_closes_a_subject() -> None:
    for name in FAMILIES:
        model, record = prompted(name, start=0.3, end=0.7)
        run(name, model, steps=10)
        sampling = model.get_model_object("model_sampling")
        low, high = float(sampling.percent_to_sigma(0.7)), float(sampling.percent_to_sigma(0.3))
        sigmas = {sigma for sigma, _, _ in record.strengths}
        assert sigmas and all(low < sigma <= high for sigma in sigmas) and len(sigmas) < 10, (name, sigmas)


def test_chosen_blocks_alone_read() -> None:
    chosen = frozenset({block("double.1"), block("single.2")})
    model, record = prompted("flux", blocks=chosen)
    drawn = run("flux", model)
    assert {key for _, key, _ in record.strengths} == chosen
    assert distance(drawn, run("flux", prompted("flux")[0])) > 1e-3


def test_an_adapter_of_the_stream_kind_adds_behind_its_blocks_and_mixes_with_the_other_kind() -> None:
    stream = LabAdapter("flux", place="stream")
    alone = prompted("flux", adapter=stream)[0]
    assert torch.equal(reaching("flux", "image", alone), reaching("flux", "image", thin_model("flux")))
    mixed, record = prompted("flux", alone, LabAdapter("flux", seed=3))
    pictures = [run("flux", model) for model in (thin_model("flux"), alone, mixed)]
    assert distance(pictures[0], pictures[1]) > 1e-3 and distance(pictures[1], pictures[2]) > 1e-3
    assert {number for _, _, number in record.strengths} == {0, 1}


def test_keys_and_values_are_computed_once_in_a_run_and_shared_by_equal_references() -> None:
    adapter = LabAdapter("flux")
    tokens = torch.zeros(1, 4, 8)
    model = prompted("flux", adapter=adapter)[0]
    model = prompted("flux", model, adapter, start=0.2)[0]
    assert tokens.shape == (1, 4, 8)
    run("flux", model, steps=6, cfg=4.0)
    assert adapter.asked == 1
    run("flux", model, steps=6)
    assert adapter.asked == 2


def traces(model: Any) -> tuple[Any, ...]:
    """Everything on a patcher and its network that a patch could have changed."""
    network = model.model.diffusion_model
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    forwards = ["forward" in vars(m) for m in network.modules()]
    return repr(model.model_options), repr(model.wrappers), repr(model.attachments), hooks, forwards


def test_a_run_leaves_nothing_behind_and_a_second_gives_the_same_bits() -> None:
    for name in FAMILIES:
        plain = thin_model(name)
        before = traces(plain)
        model = prompted(name, text_scale=0.5)[0]
        patched = traces(model)
        first = run(name, model, cfg=4.0)
        assert traces(plain) == before and traces(model) == patched
        assert torch.equal(run(name, model, cfg=4.0), first)
        assert torch.equal(run(name, plain), run(name, thin_model(name)))


def test_a_cancelled_run_releases_everything() -> None:
    model, record = prompted("flux")
    kind = PACK["nodes.host.dynaip.prompted_run"].PromptedRun
    made: list[Any] = []
    kept = kind.rules

    def note(self: Any, *args: Any) -> Any:
        made.append(self)
        return kept(self, *args)

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    kind.rules = note
    try:
        run("flux", model, callback=stop)
    except KeyboardInterrupt:
        assert made and not made[0].kept and not made[0].sites and made[0].size is None
    else:
        raise AssertionError("the run was not cancelled")
    finally:
        kind.rules = kept
    assert run("flux", model).isfinite().all() and record.strengths


def test_models_with_as_many_blocks_as_the_real_ones_fire_in_each() -> None:
    for name, stream_counts in (
        ("flux", {"double": 19, "single": 38}),
        ("sd3", {"double": 24}),
        ("qwen", {"double": 60}),
    ):
        keys = [block(f"{stream}.{index}") for stream, count in stream_counts.items() for index in range(count)]
        calls: list[Any] = []
        model = installed(thin_model(name, is_deep=True), {str(key): noting(calls) for key in keys})
        run(name, model, steps=1)
        assert [call.block for call in calls] == keys, name


def refused(words_of_error: str, do: Callable[[], Any]) -> None:
    """Asserts that this is refused with a sentence that holds these words."""
    try:
        do()
    except PACK["dci_core.errors"].PackError as error:
        assert words_of_error in str(error), error
    else:
        raise AssertionError("no error")


def test_a_region_beside_a_conditioning_with_an_area_is_refused() -> None:
    side = torch.zeros(8, 8)
    side[:, :4] = 1
    (rows, entry), *_ = words(3)
    both = [*words(1), [rows, {**entry, "area": (8, 16, 0, 0), "strength": 1.0}]]
    shape = SIZES["flux"][0]
    refused("area", lambda: sample(prompted("flux", region=side)[0], both, words(2), shape=shape, steps=1))
    assert sample(prompted("flux")[0], both, words(2), shape=shape, steps=1).isfinite().all()


def test_models_of_other_kinds_are_refused() -> None:
    from lab import small_model

    refused("UNetModel", lambda: prompted("flux", small_model()))
    network = thin_model("flux").model.diffusion_model
    kept = network.num_heads
    network.num_heads = 4
    try:
        refused("4 heads", lambda: prompted("flux"))
    finally:
        network.num_heads = kept
