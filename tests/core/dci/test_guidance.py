"""Dual-branch runs on a toy model: rows, guidance, noise, the window, and what off means."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionRule
from dci_core.attention.layers import LayerMask
from dci_core.dci.branches import DciSettings, NoiseStream, auxiliary_seed, pair, unpair
from dci_core.dci.guidance import dual_guided, guided
from dci_core.dci.run import Sampled, SampleSettings, sample_latents, sample_swapped
from dci_core.dci.stability import spring_factor
from dci_core.errors import BadSettings
from dci_core.families.table import FAMILIES
from dci_core.model import Text
from dci_core.noise.samplers import SAMPLERS, sample_ddim
from dci_core.noise.schedule import is_open, sd_schedule, spaced_sigmas, window_threshold
from dci_core.text.prompts import Prompts
from dci_core.text.tokens import PromptPair

from .cross_model import TRIGGER, CrossModel

SD = sd_schedule()
STEPS = SampleSettings(num_steps=10, cfg=6.0, spacing="ddim")
WIDE = DciSettings(window=0.3, strength=1.4, guidance="separate")  # 3 of 10 steps


def make_prompts(model: CrossModel) -> Prompts:
    pair_of_prompts = PromptPair.from_template(
        "a {concept} in snow", trigger=TRIGGER, noun="tortoise", auxiliary="cat", encoder=model.encoders["clip_l"]
    )
    return Prompts.from_pair(model, pair_of_prompts)


def run(dci: DciSettings | None = None, settings: SampleSettings = STEPS, **more: object) -> tuple[CrossModel, Sampled]:
    model = CrossModel.random()
    return model, sample_latents(model, make_prompts(model), **{"seeds": [3], "settings": settings, "dci": dci, **more})


def latents(dci: DciSettings | None = None, settings: SampleSettings = STEPS, **more: object) -> Tensor:
    return run(dci, settings, **more)[1].concept


@pytest.mark.parametrize(
    ("guidance", "cfg", "rows"),
    [
        ("shared", 6.0, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]),
        ("separate", 6.0, [4, 4, 4, 2, 2, 2, 2, 2, 2, 2]),
        ("aligned", 6.0, [4, 4, 4, 2, 2, 2, 2, 2, 2, 2]),
        ("shared", 1.0, [2, 2, 2, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_each_call_runs_only_the_rows_it_needs(guidance: str, cfg: float, rows: list[int]) -> None:
    model, _ = run(replace(WIDE, guidance=guidance), replace(STEPS, cfg=cfg))
    assert model.rows == rows
    assert run(replace(WIDE, guidance=guidance), replace(STEPS, cfg=cfg), seeds=[1, 2])[0].rows == [2 * r for r in rows]


OFF = [
    DciSettings(window=0.0),
    DciSettings(window=0.0, guidance="aligned", strength=2.0),
    DciSettings(layers=LayerMask("all:0")),
]


@pytest.mark.parametrize("dci", OFF)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_off_is_plain_sampling_bit_for_bit(dci: DciSettings, sampler: str) -> None:
    settings = replace(STEPS, sampler=sampler)
    model, sampled = run(dci, settings)
    assert torch.equal(sampled.concept, latents(None, settings))
    assert sampled.auxiliary is None and model.rows == [2] * 10
    assert not torch.allclose(latents(WIDE, settings), sampled.concept, atol=1e-3)


def test_off_is_plain_sampling_with_fresh_noise_too() -> None:
    settings = replace(STEPS, eta=1.0)
    assert torch.equal(latents(OFF[0], settings), latents(None, settings))


@pytest.mark.parametrize("guidance", ["shared", "separate", "aligned"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_concept_branch_sees_the_plain_runs_noise(guidance: str, eta: float) -> None:
    """With weights of one the auxiliary branch gives nothing, so the dual run must be the plain run."""
    settings = replace(STEPS, eta=eta)
    dual = latents(replace(WIDE, guidance=guidance, fixed_weight=1.0), settings)
    torch.testing.assert_close(dual, latents(None, settings), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(latents(replace(WIDE, guidance=guidance, fixed_weight=0.5), settings), dual, atol=1e-3)


def test_a_run_repeats_bit_for_bit_and_leaves_nothing_on_the_model() -> None:
    model = CrossModel.random()
    prompts = make_prompts(model)

    def again(dci: DciSettings | None) -> Tensor:
        return sample_latents(model, prompts, seeds=[3, 4], settings=replace(STEPS, eta=0.5), dci=dci).concept

    plain, first = again(None), again(WIDE)
    assert torch.equal(again(WIDE), first) and torch.equal(again(None), plain)


def test_pictures_of_a_batch_are_those_of_single_runs() -> None:
    both = latents(WIDE, replace(STEPS, eta=0.5), seeds=[3, 9])
    torch.testing.assert_close(both[1:], latents(WIDE, replace(STEPS, eta=0.5), seeds=[9]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", ["shared", "separate", "aligned"])
def test_every_sampler_takes_every_guidance(sampler: str, guidance: str) -> None:
    settings = SampleSettings(num_steps=12, cfg=3.0, sampler=sampler)
    _, sampled = run(replace(WIDE, guidance=guidance), settings)
    assert sampled.concept.isfinite().all() and sampled.auxiliary is not None
    assert not torch.allclose(sampled.concept, latents(None, settings), atol=1e-3)


def test_guidances_differ() -> None:
    results = [latents(replace(WIDE, guidance=guidance)) for guidance in ("shared", "separate", "aligned")]
    assert all(not torch.allclose(results[i], results[i - 1], atol=1e-3) for i in range(3))


def estimate(model: CrossModel, x: Tensor, sigma: float, text: Text, rule: AttentionRule | None = None) -> Tensor:
    """The model's noise for one row."""
    return (x - model.denoise(x, torch.full((1,), sigma, dtype=x.dtype), text, rule)) / sigma


@pytest.mark.parametrize("guidance", ["shared", "separate"])
def test_auxiliary_guidance_is_as_published(guidance: str) -> None:
    """e_y = u + s (e(y, aux) - u), u the unconditional noise of the concept latent where it is shared, else of y."""
    model = CrossModel.random(torch.float64)
    prompts, sigma, cfg = make_prompts(model), SD.sigma(901), 6.0
    x, y = torch.randn(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * sigma
    x0 = dual_guided(model, prompts, cfg, replace(WIDE, guidance=guidance))(pair(x, y), sigma)
    noise = (pair(x, y) - x0) / sigma
    uncond = estimate(model, x if guidance == "shared" else y, sigma, prompts.empty)
    assert prompts.auxiliary is not None
    torch.testing.assert_close(noise[1:], uncond + cfg * (estimate(model, y, sigma, prompts.auxiliary) - uncond))
    assert not torch.allclose(noise[:1], (x - guided(model, prompts, cfg)(x, sigma)) / sigma, atol=1e-3)


def test_whole_run_is_the_published_loop() -> None:
    """The released pipeline written out: three rows a step inside the window, two after it, DDIM in its own units."""
    model = CrossModel.random(torch.float64)
    prompts = make_prompts(model)
    assert prompts.auxiliary is not None
    dci, cfg = replace(WIDE, guidance="shared"), STEPS.cfg
    sigmas = spaced_sigmas("ddim", 10)
    streams = [NoiseStream([seed], (8, 16, 16)) for seed in (3, auxiliary_seed(3))]
    z_x, z_y = (stream.draw().double() / math.sqrt(1 + sigmas[0] ** 2) * sigmas[0] for stream in streams)
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        ab, ab_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
        x, y = z_x / math.sqrt(ab), z_y / math.sqrt(ab)
        if sigma > SD.sigma(700) * 1.001:
            noise = (pair(x, y) - dual_guided(model, prompts, cfg, dci)(pair(x, y), sigma)) / sigma
            uncond = estimate(model, x, sigma, prompts.empty)
            e_x, e_y = noise[:1], uncond + cfg * (estimate(model, y, sigma, prompts.auxiliary) - uncond)
            z_y = math.sqrt(ab_next) * (z_y - math.sqrt(1 - ab) * e_y) / math.sqrt(ab) + math.sqrt(1 - ab_next) * e_y
        else:
            uncond = estimate(model, x, sigma, prompts.empty)
            e_x = uncond + cfg * (estimate(model, x, sigma, prompts.concept) - uncond)
        z_x = math.sqrt(ab_next) * (z_x - math.sqrt(1 - ab) * e_x) / math.sqrt(ab) + math.sqrt(1 - ab_next) * e_x
    ours = sample_latents(model, prompts, seeds=[3], settings=STEPS, dci=dci).concept
    torch.testing.assert_close(ours, z_x, rtol=1e-9, atol=1e-9)


def test_weights_of_every_layer_and_open_step_are_recorded_when_asked() -> None:
    _, sampled = run(replace(WIDE, layers=LayerMask("mid out:0.5 in3:0")), records_weights=True, seeds=[1, 2])
    layers = [layer for layer in FAMILIES["tiny"].layers if layer.stage != "input"]
    assert [m.layer for m in sampled.weights] == layers * 3
    assert sorted({m.sigma for m in sampled.weights}, reverse=True) == spaced_sigmas("ddim", 10)[:3]
    for m in sampled.weights:
        side = 16 // 2 ** FAMILIES["tiny"].depths[m.layer]
        assert m.weights.shape == (2, side, side) and 0 <= m.weights.min() <= m.weights.max() <= 1
    assert run(WIDE)[1].weights == ()
    assert torch.equal(latents(WIDE, records_weights=True), latents(WIDE))


def test_auxiliary_is_its_last_estimate_inside_the_window() -> None:
    model = CrossModel.random()
    prompts, sigmas = make_prompts(model), spaced_sigmas("ddim", 10)
    denoise = dual_guided(model, prompts, 6.0, WIDE)
    streams = [NoiseStream([seed], (8, 16, 16)).draw() for seed in (3, auxiliary_seed(3))]
    x = sample_ddim(denoise, pair(*streams) * sigmas[0], sigmas[:3])
    torch.testing.assert_close(run(WIDE)[1].auxiliary, unpair(denoise(x, sigmas[2]))[1])


def test_auxiliary_rows_rest_after_the_window() -> None:
    model = CrossModel.random()
    denoise = dual_guided(model, make_prompts(model), 6.0, WIDE)
    x = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(6))
    assert torch.equal(denoise(x, SD.sigma(700))[1], x[1])
    assert not torch.equal(denoise(x, SD.sigma(701))[1], x[1])


def test_listeners_see_the_concept_branch_alone() -> None:
    seen: list[tuple[int, torch.Size]] = []
    sampled = run(WIDE, on_step=lambda step: seen.append((step.index, step.x.shape)))[1]
    assert seen == [(i, sampled.concept.shape) for i in range(10)]


def test_shared_guidance_pulls_the_auxiliary_latent_by_the_factor() -> None:
    """Unit Gaussian data for every prompt: the difference of the latents goes as f at each step."""

    class Gaussian(CrossModel):
        def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
            return x / (1 + sigma[:, None, None, None] ** 2)

    base = CrossModel.random(torch.float64)
    model = Gaussian(base.weights, base.encoders)
    sigmas = spaced_sigmas("ddim", 20)[:4]
    x, y = torch.randn(2, 1, 8, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    for guidance in ("shared", "separate"):
        denoise = dual_guided(model, make_prompts(base), 7.5, replace(WIDE, guidance=guidance))
        out_x, out_y = unpair(sample_ddim(denoise, pair(x, y), sigmas))
        ratio = float(((out_y - out_x) / (y - x)).mean()) / math.sqrt((1 + sigmas[-1] ** 2) / (1 + sigmas[0] ** 2))
        spring = math.prod(spring_factor(sigmas[i], sigmas[i + 1], 7.5) for i in range(3))
        assert (ratio == pytest.approx(spring)) == (guidance == "shared")


def test_overshoot_is_said_once_and_never_switched(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model, sampled = run(replace(WIDE, guidance="shared"))
    assert [record.getMessage() for record in caplog.records] == list(sampled.warnings)
    assert len(sampled.warnings) == 1 and "shared guidance overshoots" in sampled.warnings[0]
    assert model.rows[0] == 3
    assert run(WIDE)[1].warnings == ()


def test_a_run_from_latents_below_the_window_is_plain_and_says_so() -> None:
    start = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(8))
    more = {"start": start, "sigmas": spaced_sigmas("ddim", 10)[5:]}
    model, sampled = run(WIDE, **more)
    assert "DCI never acted" in sampled.warnings[0] and sampled.auxiliary is None and model.rows == [2] * 5
    assert torch.equal(sampled.concept, latents(None, **more))
    longer = {"start": start, "sigmas": spaced_sigmas("ddim", 10)[1:]}
    assert run(WIDE, **longer)[0].rows[:3] == [4, 4, 2]
    assert not torch.allclose(latents(WIDE, **longer), latents(None, **longer), atol=1e-3)


def test_swap_uses_the_auxiliary_prompt_inside_the_window_alone() -> None:
    model = CrossModel.random()
    prompts = make_prompts(model)
    assert prompts.auxiliary is not None
    threshold = window_threshold(0.3, SD.sigma)

    def written_out(x: Tensor, sigma: float) -> Tensor:
        assert prompts.auxiliary is not None
        text = prompts.auxiliary if is_open(sigma, threshold) else prompts.concept
        return guided(model, Prompts(text, prompts.empty), 6.0)(x, sigma)

    sigmas = spaced_sigmas("ddim", 10)
    expected = sample_ddim(written_out, NoiseStream([3], (8, 16, 16)).draw() * sigmas[0], sigmas)
    swapped = sample_swapped(model, prompts, window=0.3, seeds=[3], settings=STEPS).concept
    torch.testing.assert_close(swapped, expected)
    assert torch.equal(sample_swapped(model, prompts, window=0.0, seeds=[3], settings=STEPS).concept, latents())
    assert not torch.allclose(swapped, latents(), atol=1e-3)


def test_full_noise_starts_as_unit_noise_in_preserving_units() -> None:
    first: list[Tensor] = []

    class Watched(CrossModel):
        def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
            first.append(x)
            return super().denoise(x, sigma, text, rule)

    base = CrossModel.random()
    noise = NoiseStream([3], (8, 16, 16)).draw()
    for spacing, scale in (("normal", math.sqrt(1 + SD.sigma_max**2)), ("ddim", SD.sigma(901))):
        first.clear()
        settings = SampleSettings(num_steps=10, spacing=spacing)
        sample_latents(Watched(base.weights, base.encoders), make_prompts(base), seeds=[3], settings=settings)
        torch.testing.assert_close(first[0][:1], noise * scale)


def test_what_cannot_run_is_refused() -> None:
    model = CrossModel.random()
    plain = Prompts.from_text(model, "a cat")
    with pytest.raises(BadSettings, match="no auxiliary prompt"):
        sample_latents(model, plain, seeds=[1], settings=STEPS, dci=WIDE)
    with pytest.raises(BadSettings, match="no auxiliary prompt"):
        sample_swapped(model, plain, window=0.3, seeds=[1], settings=STEPS)
    for broken in (
        {"seeds": []},
        {"settings": replace(STEPS, num_steps=0)},
        {"settings": replace(STEPS, cfg=math.nan)},
    ):
        with pytest.raises(BadSettings):
            run(WIDE, **broken)


def test_a_first_step_without_signal_leaves_the_auxiliary_latent_where_it_is() -> None:
    """Unit Gaussian data from sigma 4519 (zero terminal SNR): both latents keep unit spread, however high the CFG."""

    class Gaussian(CrossModel):
        def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
            return x / (1 + sigma[:, None, None, None] ** 2)

    base = CrossModel.random(torch.float64)
    model = Gaussian(base.weights, base.encoders)
    x, y = torch.randn(2, 1, 8, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 4519
    for guidance in ("shared", "separate", "aligned"):
        denoise = dual_guided(model, make_prompts(base), 7.5, replace(WIDE, guidance=guidance))
        out = sample_ddim(denoise, pair(x, y), [4519.0, 60.0, 20.0])
        for before, after in zip((x, y), unpair(out), strict=True):
            assert float(after.std() / 20) == pytest.approx(float(before.std() / 4519), rel=0.01)
