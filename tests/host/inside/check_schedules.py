"""DCI under every sampling object that the host's nodes put on a model: its window, its noise, its guidance."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text
from torch import Tensor, nn

NEGATIVE = conditioning(text(3))
WINDOW = 0.5
DISCRETE = {name: ("ModelSamplingDiscrete", (name, False)) for name in ("eps", "v_prediction", "lcm", "x0")}
CONTINUOUS = {
    f"continuous {name}": ("ModelSamplingContinuousEDM", (name, 120.0, 0.002))
    for name in ("eps", "v_prediction", "edm", "cosmos_rflow")
}
WORKING = {
    **DISCRETE,
    **CONTINUOUS,
    "eps, zero terminal SNR": ("ModelSamplingDiscrete", ("eps", True)),
    "v, zero terminal SNR": ("ModelSamplingDiscrete", ("v_prediction", True)),
    "continuous v": ("ModelSamplingContinuousV", ("v_prediction", 500.0, 0.03)),
    "flow of SD 3": ("ModelSamplingSD3", (3.0,)),
    "flow of AuraFlow": ("ModelSamplingAuraFlow", (1.73,)),
    "flow of Flux": ("ModelSamplingFlux", (1.15, 0.5, 128, 128)),
    "Stable Cascade's": ("ModelSamplingStableCascade", (2.0,)),
}
DISCRETE_CLOCK = (*DISCRETE, "eps, zero terminal SNR", "v, zero terminal SNR")


def with_sampling(model: Any, node: str, values: tuple[Any, ...]) -> Any:
    """The model as one of the host's own sampling nodes leaves it."""
    import asyncio

    import nodes

    if node not in nodes.NODE_CLASS_MAPPINGS:
        asyncio.run(nodes.init_builtin_extra_nodes())
    kind = nodes.NODE_CLASS_MAPPINGS[node]
    return getattr(kind(), kind.FUNCTION)(model, *values)[0]


@cache
def base() -> Any:
    """A small random model."""
    return small_model()


def test_the_window_goes_by_each_objects_own_clock() -> None:
    import comfy.samplers

    model, pair = base(), plan(text(2))
    positive, wrong = conditioning(text(1), pair), {}
    for name, (node, values) in WORKING.items():
        own = with_sampling(model, node, values)
        sampling = own.get_model_object("model_sampling")
        is_discrete = name in DISCRETE_CLOCK
        bound = float(sampling.sigma(torch.tensor(500.0)) if is_discrete else sampling.percent_to_sigma(WINDOW))
        patched, record = apply(own, pair, window=WINDOW, guidance="aligned")
        plain, mine = (sample(m, positive, NEGATIVE, steps=8, scheduler="simple") for m in (own, patched))
        levels = comfy.samplers.calculate_sigmas(sampling, "simple", 8).tolist()[:-1]
        wanted = sum(level > bound * (1 + 1e-5) for level in levels)
        acted = len({sigma for sigma, _ in record.weights})
        is_right = wanted == acted == record.acted > 0 and mine.isfinite().all() and distance(mine, plain) > 1e-4
        if not is_right:
            wrong[name] = (wanted, acted, record.acted, distance(mine, plain))
    assert not wrong, wrong


def test_a_region_of_zeros_is_the_plain_run_under_every_object_and_guidance() -> None:
    model, pair, wrong = base(), plan(text(2)), {}
    positive, nowhere = conditioning(text(1), pair), torch.zeros(16, 16)
    for name, (node, values) in WORKING.items():
        own = with_sampling(model, node, values)
        plain = sample(own, positive, NEGATIVE, steps=4)
        for guidance in ("shared", "separate", "aligned"):
            patched, _ = apply(own, pair, window=WINDOW, guidance=guidance, region=nowhere)
            error = distance(sample(patched, positive, NEGATIVE, steps=4), plain)
            if not error < 1e-4:
                wrong[name, guidance] = error
    assert not wrong, wrong


def test_img_to_img_is_refused_in_one_sentence_when_it_is_applied_and_when_it_is_run() -> None:
    model, pair = base(), plan(text(2))
    own = with_sampling(model, "ModelSamplingDiscrete", ("img_to_img", False))
    patched, _ = apply(model, pair, window=WINDOW)
    late = with_sampling(patched, "ModelSamplingDiscrete", ("img_to_img", False))
    for run in (
        lambda: apply(own, pair, window=WINDOW),
        lambda: sample(late, conditioning(text(1), pair), NEGATIVE, steps=2),
    ):
        try:
            run()
        except PACK["dci_core.errors"].BadModel as error:
            assert "img_to_img" in str(error) and str(error).count("; ") == 2, error
        else:
            raise AssertionError("no error")


def test_a_clock_without_a_finite_level_is_told_and_never_passed_over() -> None:
    sampling = PACK["nodes.host.families.sampling"]

    class Endless:
        """An object whose clock and table say nothing."""

        def __init__(self, level: float) -> None:
            self.sigmas = torch.tensor([0.1, level])

        def percent_to_sigma(self, percent: float) -> float:
            return float("inf")

    assert abs(sampling.level_at(Endless(10.0), 500.0) - 1.0) < 1e-6  # its table's middle, in log sigma
    for level in (float("nan"), float("inf")):
        try:
            sampling.level_at(Endless(level), 500.0)
        except PACK["dci_core.errors"].BadModel as error:
            assert "Endless" in str(error), error
        else:
            raise AssertionError("no error")


class PredictsV(nn.Module):
    """The tiny world's trained U-Net as a v-predicting model with zero terminal SNR (what NoobAI is in large).

    Above the noise that it was trained with it sees its own noisiest level: unit noise in both.
    """

    def __init__(self, network: nn.Module, old: Any, new: Any) -> None:
        super().__init__()
        self.network, self.old, self.new, self.dtype = network, old, new, torch.float32

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **rest: Any) -> Tensor:
        sigma = self.new.sigmas[timesteps.long()][:, None, None, None]
        known = sigma.clamp(max=float(self.old.sigma_max))
        eps = self.network(x, self.old.timestep(known.flatten()).float(), context=context, **rest)
        x0 = x * (1 + known**2).sqrt() - known * eps
        return (x / (1 + sigma**2).sqrt() - x0) * (1 + sigma**2).sqrt() / sigma


@cache
def zero_snr() -> tuple[Any, Any, Any, Any]:
    """(MODEL, positive, plan, negative) of that model."""
    model, clip, _ = PACK["nodes.host.tiny.unet"].load_world()
    old = model.get_model_object("model_sampling")
    own = with_sampling(model, "ModelSamplingDiscrete", ("v_prediction", True))
    new = own.get_model_object("model_sampling")
    own.model.diffusion_model = PredictsV(model.model.diffusion_model, old, new)
    words, other, empty = (
        clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        for prompt in ("a fish in the snow", "a cat in the snow", "")
    )
    tokens = PACK["dci_core.text.tokens"]
    sets = tokens.PairTokens(
        tokens.TokenSet((2,), tuple(range(1, 6)), 77), tokens.TokenSet((2,), tuple(range(1, 6)), 77)
    )
    pair = PACK["nodes.host.dci.plan"].DciPlan("lab", other[0][0], None, sets)
    return own, conditioning(words[0][0], pair), pair, conditioning(empty[0][0])


def test_v_prediction_with_zero_terminal_snr_keeps_the_pictures_spread_in_every_guidance() -> None:
    own, positive, pair, negative = zero_snr()
    measured, wrong = {}, {}
    for steps in (8, 30):
        how = {"steps": steps, "cfg": 6.0, "shape": (2, 8, 16, 16)}
        plain = sample(own, positive, negative, **how)
        for guidance in ("shared", "separate", "aligned"):
            patched, record = apply(own, pair, window=0.3, guidance=guidance)
            mine = sample(patched, positive, negative, **how)
            spread = float(mine.std() / plain.std())
            measured[steps, guidance] = (round(spread, 3), round(float(record.final_auxiliary.std()), 2))
            if not (0.9 < spread < 1.1 and distance(mine, plain) > 1e-2):
                wrong[steps, guidance] = spread
    print("MEASURED", measured)
    assert not wrong, (wrong, measured)
    auxiliary = {guidance: measured[30, guidance][1] for guidance in ("shared", "separate")}
    assert auxiliary["shared"] < 2 * auxiliary["separate"], measured  # it does not run away


def test_shared_guidance_at_zero_terminal_snr_is_the_same_beside_a_guest() -> None:
    own, positive, pair, negative = zero_snr()
    patched, record = apply(own, pair, window=0.3, guidance="shared")
    alone = sample(patched, positive, negative, steps=8, shape=(1, 8, 16, 16))
    auxiliary = record.final_auxiliary
    assert not record.guests
    beside = patched.clone()
    beside.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    assert distance(sample(beside, positive, negative, steps=8, shape=(1, 8, 16, 16)), alone) < 1e-4
    again, record = apply(beside, pair, window=0.3, guidance="shared")
    sample(again, positive, negative, steps=8, shape=(1, 8, 16, 16))
    assert record.guests and distance(record.final_auxiliary, auxiliary) < 1e-3


def test_no_warning_raises_whatever_the_levels_are() -> None:
    model, pair = base(), plan(text(2))
    import comfy.sample
    import comfy.samplers

    noise = comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), 5)
    odd = {
        "with a zero inside": [14.6, 3.0, 0.0, 2.0, 0.0],
        "rising": [0.03, 1.0, 5.0, 14.6],
        "one step": [14.6, 0.0],
        "one level": [14.6],
        "far above": [1e9, 100.0, 14.6, 1.0, 0.0],
        "equal": [5.0, 5.0, 5.0, 0.0],
    }
    for name, levels in odd.items():
        for guidance in ("shared", "aligned"):
            patched, record = apply(model, pair, window=WINDOW, guidance=guidance)
            comfy.sample.sample_custom(
                patched, noise, 6.0, comfy.samplers.sampler_object("euler"), torch.tensor(levels),
                conditioning(text(1), pair), NEGATIVE, torch.zeros(1, 4, 8, 8), disable_pbar=True, seed=5,
            )  # fmt: skip
            assert record.steps == len(levels) - 1, name
