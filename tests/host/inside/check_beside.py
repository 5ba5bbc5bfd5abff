"""Guests see the plain run: under a black region a run with DCI and a guest is the run with that guest alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text
from torch import Tensor

NEGATIVE = conditioning(text(3))
MODES = ("shared", "separate", "aligned")
BLACK = torch.zeros(16, 16)
LEAST = 2e-5
Guest = Callable[[Any], Any]


def made() -> tuple[Any, Any, Any]:
    """(model, plan, the pair's conditioning)."""
    pair = plan(text(2))
    return small_model(), pair, conditioning(text(1), pair)


def black_of(guest: Guest, modes: tuple[str, ...] = MODES, batches: tuple[int, ...] = (2,), **how: Any) -> None:
    """Asserts the oracle, that the guest does something, and that DCI does beside it."""
    model, pair, positive = made()
    steps = how.pop("steps", 4)
    for batch in batches:
        run = {"steps": steps, "shape": (batch, 4, 16, 16), **how}
        plain = sample(guest(model), positive, NEGATIVE, **run)
        assert distance(plain, sample(model, positive, NEGATIVE, **run)) > 1e-4, "the guest does nothing"
        for mode in modes:
            for is_before in (True, False):
                settings = {"window": 0.6, "guidance": mode}
                ours = lambda m, **more: apply(m, pair, **{**settings, **more})  # noqa: E731, B023
                patched, record = ours(guest(model), region=BLACK) if is_before else ours(model, region=BLACK)
                left = distance(sample(patched if is_before else guest(patched), positive, NEGATIVE, **run), plain)
                assert left < LEAST, (mode, batch, is_before, left)
                assert record.guests and record.acted
        acting, record = ours(guest(model))
        assert distance(sample(acting, positive, NEGATIVE, **run), plain) > 1e-4, "DCI does nothing"
        assert record.weights and record.rows > record.plain_rows


def patching(method: str, function: Callable[..., Any], *where: Any) -> Guest:
    """A guest that puts a function on a clone of the model."""

    def guest(model: Any) -> Any:
        clone = model.clone()
        getattr(clone, method)(function, *where)
        return clone

    return guest


def wrapping(kind: str, make: Callable[[], Callable[..., Any]]) -> Guest:
    """A guest with a wrapper that is made anew for each clone."""

    def guest(model: Any) -> Any:
        clone = model.clone()
        clone.add_wrapper_with_key(kind, "a_guest", make())
        return clone

    return guest


def by_picture(n: Tensor, extra: dict[str, Any]) -> Tensor:
    """Scales each picture by its own number, as those do that give each picture of a batch its own reference."""
    size = n.shape[0] // len(extra["cond_or_uncond"])
    scale = torch.tensor([1 + 0.3 * index for index in range(size)]).repeat(len(extra["cond_or_uncond"]))
    return n * scale.reshape(-1, 1, 1) * 0.9


def test_a_guest_that_counts_pictures_finds_them_as_the_user_counts_them() -> None:
    black_of(patching("set_model_attn2_output_patch", by_picture), batches=(1, 2))


def over_the_batch(args: dict[str, Any]) -> Tensor:
    """Divides by what the whole batch has, as guidance functions do that reduce over it."""
    return args["denoised"] * (1 + 0.1 * args["denoised"].std() / args["cond_denoised"].std())


def test_a_guest_that_reduces_over_the_batch_reduces_over_the_pictures() -> None:
    black_of(patching("set_model_sampler_post_cfg_function", over_the_batch))


def remembering(args: dict[str, Any]) -> Tensor:
    """Pushes on from the step before, which it keeps in the run's options, as momentum guidance does."""
    kept = args["model_options"].setdefault("a_guest", {})
    before = kept.get("x0", args["denoised"])
    kept["x0"] = args["denoised"]
    return args["denoised"] + 0.3 * (args["denoised"] - before)


def test_a_guest_that_keeps_things_in_the_runs_options_finds_them_again() -> None:
    black_of(patching("set_model_sampler_post_cfg_function", remembering))
    black_of(patching("set_model_sampler_post_cfg_function", remembering), ("shared",), sampler="euler_cfg_pp")


def cropping(args: dict[str, Any]) -> Tensor:
    """Guides away from what the model predicts of a part alone, as sliding window guidance does."""
    from comfy.samplers import calc_cond_batch

    x, out = args["input"][..., :8].contiguous(), args["denoised"].clone()
    (part,) = calc_cond_batch(args["model"], [args["cond"]], x, args["sigma"], args["model_options"])
    out[..., :8] += 0.3 * (out[..., :8] - part)
    return out


def test_a_guest_that_runs_a_part_of_the_picture_again_is_left_alone() -> None:
    black_of(patching("set_model_sampler_post_cfg_function", cropping))


def skipping() -> Callable[..., Any]:
    """A cache around the model's forward: by uuid, with one slice for each chunk, every second step from the cache."""
    kept: dict[Any, Tensor] = {}
    seen: dict[Any, int] = {}

    def wrapper(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        uuids = args[-1]["uuids"] if isinstance(args[-1], dict) else kwargs["transformer_options"]["uuids"]
        assert len(set(uuids)) == len(uuids) and x.shape[0] % len(uuids) == 0
        size = x.shape[0] // len(uuids)
        for uuid in uuids:
            seen[uuid] = seen.get(uuid, 0) + 1
        if all(uuid in kept and seen[uuid] % 2 == 0 for uuid in uuids):
            return x + torch.cat([kept[uuid] for uuid in uuids])
        out = executor(x, *args, **kwargs)
        for index, uuid in enumerate(uuids):
            part = slice(index * size, (index + 1) * size)
            kept[uuid] = (out - x)[part].clone()
        return out

    return wrapper


def test_a_guest_that_caches_by_uuid_keeps_what_it_would_without_us() -> None:
    black_of(wrapping("diffusion_model", skipping), batches=(1, 2))


def counting(seen: list[Any]) -> Callable[..., Any]:
    """Notes what each kind of wrapper is handed."""

    def wrapper(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        shape = tuple(x.shape) if torch.is_tensor(x) else tuple(args[1].shape)
        seen.append(shape)
        return executor(x, *args, **kwargs)

    return wrapper


def test_every_wrapper_sees_the_rows_of_the_plain_run() -> None:
    model, pair, positive = made()
    for kind in ("predict_noise", "calc_cond_batch", "apply_model", "diffusion_model"):
        seen: list[Any] = []
        guest = wrapping(kind, lambda seen=seen: counting(seen))
        sample(guest(model), positive, NEGATIVE, steps=3)
        plain = seen[:]
        for mode in MODES:
            seen.clear()
            sample(apply(guest(model), pair, window=0.6, guidance=mode)[0], positive, NEGATIVE, steps=3)
            assert seen == plain, (kind, mode, seen, plain)


def test_whoever_draws_random_numbers_draws_the_same() -> None:
    black_of(patching("set_model_attn1_output_patch", lambda n, extra: n * (1 + 0.1 * torch.rand(1))))


def adding_rows(n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Puts a second text under each row, as attention couples do; the output patch puts the halves together."""
    return n.repeat(2, 1, 1), torch.cat([context, context.flip(1) * 0.5]), torch.cat([value, value.flip(1) * 0.5])


def couple(model: Any) -> Any:
    """An attention couple in the small."""
    clone = model.clone()
    clone.set_model_attn2_patch(adding_rows)
    clone.set_model_attn2_output_patch(lambda n, extra: sum(n.chunk(2)) / 2)
    return clone


def test_a_guest_that_adds_rows_is_left_its_own_or_told_so() -> None:
    black_of(couple)


def by_windows(args: dict[str, Any]) -> list[Tensor]:
    """Runs two frames of four at a time, as windows of motion models do."""
    from comfy.samplers import calc_cond_batch

    options = {key: value for key, value in args["model_options"].items() if key != "sampler_calc_cond_batch_function"}
    x, sigma = args["input"], args["sigma"]
    parts = [
        calc_cond_batch(args["model"], args["conds"], x[i : i + 2].contiguous(), sigma[i : i + 2], options)
        for i in range(0, x.shape[0], 2)
    ]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def test_frames_in_windows_of_anothers_making_are_refused_in_one_sentence_and_run_where_one_window_has_all() -> None:
    guest = patching("set_model_sampler_calc_cond_batch_function", by_windows)
    model, pair, positive = made()
    for mode in MODES:
        patched, _ = apply(guest(model), pair, window=0.6, guidance=mode)
        try:
            sample(patched, positive, NEGATIVE, steps=2, shape=(4, 4, 16, 16))
        except PACK["dci_core.errors"].BadSettings as error:
            assert "the same rows in both branches" in str(error), error
        else:
            raise AssertionError("no error")
        out = sample(patched, positive, NEGATIVE, steps=2, shape=(2, 4, 16, 16))
        whole, _ = apply(model, pair, window=0.6, guidance=mode)
        same = sample(whole, positive, NEGATIVE, steps=2, shape=(2, 4, 16, 16))
        assert distance(out, same) < LEAST and out.isfinite().all(), mode


def test_samplers_that_look_at_the_guidance_find_both_latents() -> None:
    for name in ("euler_cfg_pp", "dpmpp_2m"):
        black_of(patching("set_model_attn2_output_patch", by_picture), ("shared", "aligned"), sampler=name)


def test_a_run_without_guests_names_none() -> None:
    model, pair, positive = made()
    patched, record = apply(model, pair, window=0.6)
    sample(patched, positive, NEGATIVE, steps=2)
    assert record.guests == ()


def test_a_cache_that_counts_the_calls_of_a_step_is_told_where_the_window_closes() -> None:
    def counted(apply_model: Any, args: Any) -> Tensor:
        return apply_model(args["input"], args["timestep"], **args["c"])

    model, pair, positive = made()
    for module, is_told in (("a.fbcache_nodes", True), ("a", False)):
        counted.__module__ = module
        patched, record = apply(patching("set_model_unet_function_wrapper", counted)(model), pair, window=0.6)
        sample(patched, positive, NEGATIVE, steps=2)
        assert record.guests and is_told is any("First Block Cache" in sentence for sentence in record.warnings)
