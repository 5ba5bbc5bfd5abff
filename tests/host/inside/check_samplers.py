"""Every sampler and scheduler that the host lists."""

from __future__ import annotations

import torch
from lab import apply, conditioning, distance, plan, sample, small_model, text

NEGATIVE = conditioning(text(3))


def test_every_sampler_gives_a_finite_picture_with_an_effect() -> None:
    import comfy.samplers

    model, pair = small_model(), plan(text(2))
    positive = conditioning(text(1), pair)
    patched, _ = apply(model, pair, window=0.5, guidance="aligned")
    trouble = {}
    for name in comfy.samplers.SAMPLER_NAMES:
        plain, mine = (
            sample(m, positive, NEGATIVE, sampler=name, steps=4, shape=(1, 4, 8, 8)) for m in (model, patched)
        )
        if not (mine.isfinite().all() and mine.shape == plain.shape and distance(mine, plain) > 1e-4):
            trouble[name] = distance(mine, plain)
    assert not trouble, trouble


def test_the_concept_sees_the_noise_that_the_plain_run_sees_with_every_sampler() -> None:
    """With the auxiliary's share at zero the dual run must be the plain run, later noise included."""
    import comfy.samplers

    model, pair = small_model(), plan(text(2))
    positive = conditioning(text(1), pair)
    patched, _ = apply(model, pair, window=0.5, guidance="separate", fixed_weight=1.0)
    errors = {}
    for name in comfy.samplers.SAMPLER_NAMES:
        plain, mine = (
            sample(m, positive, NEGATIVE, sampler=name, steps=4, shape=(1, 4, 8, 8)) for m in (model, patched)
        )
        errors[name] = distance(mine, plain)
    wrong = {name: error for name, error in errors.items() if error > 1e-4}
    assert set(wrong) <= {"dpm_adaptive"}, wrong  # its step size looks at all rows


def test_every_scheduler_opens_the_window_by_noise_and_not_by_steps() -> None:
    import comfy.samplers

    model, pair = small_model(), plan(text(2))
    positive = conditioning(text(1), pair)
    sampling = model.get_model_object("model_sampling")
    threshold = float(sampling.sigma(torch.tensor(700.0)))
    for name in comfy.samplers.SCHEDULER_NAMES:
        patched, record = apply(model, pair, window=0.3, guidance="aligned")
        sample(patched, positive, NEGATIVE, scheduler=name, steps=8, shape=(1, 4, 8, 8))
        sigmas = comfy.samplers.calculate_sigmas(sampling, name, 8)
        wanted = int((sigmas > threshold * (1 + 1e-5)).sum())
        assert len({sigma for sigma, _ in record.weights}) == wanted, name
