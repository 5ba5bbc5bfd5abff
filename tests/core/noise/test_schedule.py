"""Stable Diffusion's schedule, the spacings, the window and the stability factor."""

from __future__ import annotations

import math

import pytest
import torch

from dci_core.dci.stability import (
    resampled,
    shared_warning,
    spring_factor,
    spring_factors,
    spring_share,
    window_warning,
    worst_factor,
)
from dci_core.errors import BadSettings
from dci_core.noise.flow_schedule import FlowSchedule
from dci_core.noise.schedule import (
    Schedule,
    is_open,
    open_steps,
    sd_schedule,
    spaced_sigmas,
    split_noise,
    window_threshold,
)

SD = sd_schedule()


def ddim_run(num_steps: int) -> list[float]:
    """The released pipeline's noise levels: it ends at timestep 0, not at zero noise."""
    return [*spaced_sigmas("ddim", num_steps)[:-1], SD.sigma(0)]


def test_schedule_has_stable_diffusions_ends() -> None:
    assert SD.sigma_max == pytest.approx(14.6146, abs=1e-4) and SD.sigma_min == pytest.approx(0.0291675, abs=1e-6)
    naive = 1.0
    for i in range(1000):
        naive *= 1 - (math.sqrt(0.00085) + i / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2
        if i in (0, 500, 999):
            assert float(SD.alphas_cumprod[i]) == pytest.approx(naive, rel=1e-9)


def test_sigma_is_interpolated_in_the_logarithm() -> None:
    assert SD.sigma(500.25) == pytest.approx(SD.sigma(500) ** 0.75 * SD.sigma(501) ** 0.25)
    assert SD.sigma(-3) == SD.sigma_min and SD.sigma(2000) == SD.sigma_max


def test_timestep_is_the_nearest_whole_one() -> None:
    times = torch.tensor([0, 1, 333, 998, 999])
    sigmas = torch.tensor([SD.sigma(float(t)) for t in times])
    assert torch.equal(SD.timestep(sigmas), times)
    assert SD.timestep(torch.tensor([SD.sigma(500.4), SD.sigma(500.6), 100.0])).tolist() == [500, 501, 999]


def test_spacings_fall_to_zero() -> None:
    for name in ("normal", "ddim", "karras"):
        sigmas = spaced_sigmas(name, 20)
        assert len(sigmas) == 21 and sigmas[-1] == 0 and sigmas == sorted(sigmas, reverse=True)
    assert spaced_sigmas("normal", 20)[0] == SD.sigma_max
    assert spaced_sigmas("karras", 20)[-2] == pytest.approx(SD.sigma_min)
    assert [spaced_sigmas(name, 1) for name in ("normal", "karras")] == [
        [SD.sigma_max, 0.0],
        [pytest.approx(SD.sigma_max), 0.0],
    ]
    assert spaced_sigmas("ddim", 10)[:-1] == [SD.sigma(t) for t in range(901, 0, -100)]


@pytest.mark.parametrize(("name", "steps"), [("normal", 0), ("normal", -1), ("karras", 1001), ("linear", 10)])
def test_impossible_spacings_are_refused(name: str, steps: int) -> None:
    with pytest.raises(BadSettings):
        spaced_sigmas(name, steps)


WINDOW_COUNTS = {20: (2, 4, 6, 10, 20), 50: (5, 10, 15, 25, 50), 200: (20, 40, 60, 100, 200)}


@pytest.mark.parametrize("steps", WINDOW_COUNTS)
def test_window_opens_for_the_tabled_number_of_steps(steps: int) -> None:
    counts = [len(open_steps(ddim_run(steps), window_threshold(w, SD.sigma))) for w in (0.1, 0.2, 0.3, 0.5, 1.0)]
    assert tuple(counts) == WINDOW_COUNTS[steps]


def test_window_is_no_fraction_of_the_steps() -> None:
    threshold = window_threshold(0.3, SD.sigma)
    assert len(open_steps(spaced_sigmas("normal", 30), threshold)) == 9
    assert len(open_steps(spaced_sigmas("karras", 30), threshold)) == 10


def test_window_is_strict_at_its_boundary_in_any_precision() -> None:
    threshold = window_threshold(0.3, SD.sigma)
    for step in (700, 701):
        for dtype in (torch.float32, torch.float64):
            assert is_open(float(torch.tensor(SD.sigma(step), dtype=dtype)), threshold) == (step > 700)
    assert not is_open(SD.sigma(0), window_threshold(1.0, SD.sigma)) and is_open(
        SD.sigma(1), window_threshold(1.0, SD.sigma)
    )


def test_closed_window_never_opens() -> None:
    assert not is_open(1e9, window_threshold(0.0, SD.sigma))


@pytest.mark.parametrize("window", [-0.1, 1.1, math.nan])
def test_window_outside_its_range_is_refused(window: float) -> None:
    with pytest.raises(BadSettings, match="the window is"):
        window_threshold(window, SD.sigma)


def test_noise_of_a_step_is_ddims() -> None:
    sigma, sigma_next, eta = 5.0, 3.0, 0.7
    ab, ab_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
    fresh = eta * math.sqrt((1 - ab_next) / (1 - ab)) * math.sqrt(1 - ab / ab_next)  # DDIM's sigma_t
    down, up = split_noise(sigma, sigma_next, eta)
    assert up == pytest.approx(fresh / math.sqrt(ab_next))
    assert down == pytest.approx(math.sqrt((1 - ab_next - fresh**2) / ab_next))
    assert split_noise(sigma, 0.0, 1.0) == (0.0, 0.0)


FACTORS = [  # eta, steps, then f of the first step at CFG 6, 7.5, 10, as printed
    (0, 10, -2.1, -3.0, -4.6),
    (0, 20, -0.55, -1.02, -1.8),
    (0, 30, -0.06, -0.38, -0.91),
    (0, 50, 0.39, 0.20, -0.11),
    (0, 200, 0.85, 0.80, 0.73),
    (1, 20, -1.97, -2.8, -4.2),
    (1, 50, -0.27, -0.62, -1.20),
    (1, 200, 0.67, 0.58, 0.43),
]


@pytest.mark.parametrize(("eta", "steps", "six", "seven", "ten"), FACTORS)
def test_stability_factor_is_as_tabled(eta: float, steps: int, six: float, seven: float, ten: float) -> None:
    sigmas = ddim_run(steps)
    for cfg, printed in ((6, six), (7.5, seven), (10, ten)):
        digits = len(str(printed).split(".")[1])
        assert spring_factor(sigmas[0], sigmas[1], cfg, eta) == pytest.approx(printed, abs=0.51 * 10**-digits)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_both_forms_of_the_stability_factor_agree(eta: float) -> None:
    sigma, sigma_next, cfg = 9.0, 6.0, 7.5
    ab, ab_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
    fresh = split_noise(sigma, sigma_next, eta)[1] * math.sqrt(ab_next)
    spring = math.sqrt(1 - ab_next - fresh**2) - math.sqrt(ab_next * (1 - ab) / ab)
    assert spring_factor(sigma, sigma_next, cfg, eta) == pytest.approx(
        math.sqrt(ab_next / ab) + cfg * math.sqrt(1 - ab) * spring
    )


def test_shared_guidance_warns_with_cures_that_cure() -> None:
    threshold = window_threshold(0.3, SD.sigma)
    sigmas = spaced_sigmas("ddim", 20)
    sentence = shared_warning(sigmas, 7.5, threshold)
    assert sentence is not None and "step 1 of 20" in sentence and "CFG 7.5" in sentence
    steps, cfg = (float(sentence.split(after)[0].split()[-1]) for after in (" steps or more", " or less"))
    assert 20 < steps < 30 and 7 < cfg < 7.5
    assert shared_warning(resampled(sigmas, int(steps)), 7.5, threshold) is None
    assert shared_warning(sigmas, cfg, threshold) is None
    assert shared_warning(sigmas, cfg + 0.1, threshold) is not None


def test_shared_guidance_is_silent_where_it_holds_or_is_not_used() -> None:
    threshold = window_threshold(0.3, SD.sigma)
    assert shared_warning(spaced_sigmas("ddim", 50), 7.5, threshold) is None
    assert shared_warning(spaced_sigmas("ddim", 10), 1, threshold) is None
    assert shared_warning(spaced_sigmas("ddim", 10), 9, math.inf) is None
    assert shared_warning(spaced_sigmas("ddim", 50), 10, threshold, eta=1) is not None


def test_factors_are_listed_for_the_open_steps() -> None:
    sigmas, threshold = spaced_sigmas("ddim", 20), window_threshold(0.3, SD.sigma)
    factors = spring_factors(sigmas, 6, threshold)
    assert [step for step, _ in factors] == [0, 1, 2, 3, 4, 5]
    assert worst_factor(sigmas, 6, threshold) == max(factors, key=lambda item: abs(item[1]))


def test_resampling_keeps_the_curve() -> None:
    sigmas = spaced_sigmas("karras", 12)
    assert resampled(sigmas, 12) == pytest.approx(sigmas)
    finer = resampled(sigmas, 23)
    assert finer[:-1:2] == pytest.approx(sigmas[:-1]) and len(finer) == 24 and finer[-1] == 0


def test_a_run_below_its_window_is_told_so() -> None:
    sigmas, threshold = spaced_sigmas("normal", 30), window_threshold(0.3, SD.sigma)
    assert "DCI never acted" in (window_warning(sigmas[9:], threshold) or "")
    assert window_warning(sigmas[8:], threshold) is None
    assert window_warning(sigmas[9:], window_threshold(0.0, SD.sigma)) is None


def test_a_borrowed_estimate_moves_with_the_latent_up_to_the_noisiest_level_and_hardly_above() -> None:
    assert all(spring_share(SD.sigma(t)) == 1 for t in (0, 1, 500, 999))
    assert spring_share(torch.tensor(SD.sigma_max, dtype=torch.float32).item()) == 1
    for sigma in (15.0, 120.0, 4518.76):
        assert spring_share(sigma) == pytest.approx(1 / (1 + sigma**2))
    assert spring_share(math.inf) == 0


def test_steps_above_the_noisiest_level_have_no_spring_that_could_overshoot() -> None:
    sigmas, threshold = [4518.76, *spaced_sigmas("normal", 30)], window_threshold(0.3, SD.sigma)
    assert [i for i, _ in spring_factors(sigmas, 4, threshold)] == list(range(1, 10))
    assert shared_warning(sigmas, 4, threshold) is None
    few = shared_warning([4518.76, *spaced_sigmas("normal", 5)], 6, threshold)
    assert few is not None and "steps or more" in few


@pytest.mark.parametrize(
    "sigmas",
    [[], [14.6], [14.6, 0.0], [14.6, 0.0, 3.0, 0.0], [0.0, 1.0, 14.6], [math.inf, 5.0, 0.0], [math.nan, 5.0, 0.0],
     [1e300, 1e200, 10.0, 0.0], [-1.0, 2.0, 0.0]],
)  # fmt: skip
@pytest.mark.parametrize("threshold", [0.0, 2.0, math.inf, math.nan])
@pytest.mark.parametrize("cfg", [6.0, 1.0, -3.0, math.inf, math.nan])
def test_no_warning_raises(sigmas: list[float], threshold: float, cfg: float) -> None:
    for found in (shared_warning(sigmas, cfg, threshold, 1.0), window_warning(sigmas, threshold)):
        assert found is None or found.endswith(("window", "`separate`")), found


@pytest.mark.parametrize("schedule", [SD, FlowSchedule(1.0), FlowSchedule(3.0)])
def test_a_window_closes_where_its_share_has_passed(schedule: Schedule | FlowSchedule) -> None:
    for window in (0.05, 0.3, 0.5, 0.7155, 0.9):
        assert schedule.passed(schedule.threshold(window)) == pytest.approx(window, abs=1e-9)
    assert schedule.passed(0.0) == 1.0
