"""Training under other sampling objects: on the model's own noise levels, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from check_graph import each_is_red, give, learning, shelf
from check_schedules import with_sampling
from check_tiny import worlds
from check_training import codec, in_new_folder, lesson
from graphs import SHELF, Queue, changed
from lab import PACK

REFUSED = {
    "x0": ("ModelSamplingDiscrete", ("x0", False)),
    "img_to_img": ("ModelSamplingDiscrete", ("img_to_img", False)),
    "flow": ("ModelSamplingSD3", (3.0,)),
    "cosmos": ("ModelSamplingContinuousEDM", ("cosmos_rflow", 120.0, 0.002)),
}


@contextmanager
def families_of_v() -> Iterator[None]:
    """The tiny world may predict v for a while: the shipped table has no such row."""
    table, training = PACK["dci_core.families.table"].FAMILIES, PACK["nodes.host.ico.training"]
    kept = training.rare_tokens
    table["tiny_v"] = replace(table["tiny"], name="tiny_v", prediction="v")
    names = PACK["dci_core.concept.modelspec"].ARCHITECTURES
    names["tiny_v"] = names["tiny"]
    training.rare_tokens = lambda host: kept(replace(host, kind=table["tiny"]))
    try:
        yield
    finally:
        training.rare_tokens = kept
        del table["tiny_v"], names["tiny_v"]


def trained(model: Any, **settings: Any) -> tuple[list[float], list[float], list[dict[str, Any]]]:
    """(losses, noise levels that the model was asked at, what each loss was taken of) of a short training."""
    levels: list[float] = []
    calls: list[dict[str, Any]] = []
    module, host = PACK["dci_core.noise.process"], PACK["nodes.host.ico.model"].HostModel
    loss, denoise = module.noise_loss, host.denoise

    def watched_loss(*given: Any) -> Any:
        calls.append({"given": given, "loss": float(loss(*given))})
        return loss(*given)

    def watched(self: Any, x: Any, sigma: Any, *rest: Any) -> Any:
        levels.extend(sigma.tolist() if torch.is_grad_enabled() else [])  # not those of pictures that are drawn
        return denoise(self, x, sigma, *rest)

    chosen = lesson(steps=3, preview_every=1)
    chosen = replace(chosen, settings=replace(chosen.settings, prior="none", **settings))
    found: list[Any] = []

    def check(folder: Path) -> None:
        vae = PACK["nodes.host.tiny.unet"].host_vae(codec())
        found.extend(PACK["nodes.host.ico.training"].train_concept(model, worlds()[2], vae, chosen))

    module.noise_loss, host.denoise = watched_loss, watched
    try:
        in_new_folder(check)
    finally:
        module.noise_loss, host.denoise = loss, denoise
    return found[1], levels, calls


def test_every_training_draws_its_models_own_levels_previews_too() -> None:
    _, model, _ = worlds()
    cases = {
        "eps": ("ModelSamplingDiscrete", ("eps", False), 1000),
        "lcm": ("ModelSamplingDiscrete", ("lcm", False), 50),
        "continuous": ("ModelSamplingContinuousEDM", ("eps", 120.0, 0.002), 1000),
        "wide": ("ModelSamplingStableCascade", (2.0,), 10000),
    }
    for name, (node, values, count) in cases.items():
        own = with_sampling(model, node, values)
        table = own.get_model_object("model_sampling").sigmas
        losses, levels, _ = trained(own)
        assert len(table) == count and set(levels) <= set(table.tolist()), (name, len(table), levels, table[:3])
        assert len(set(levels)) > 3 and all(torch.tensor(losses).isfinite()), (name, losses)


def test_the_loss_under_edm_is_that_of_what_its_network_gives() -> None:
    own = with_sampling(worlds()[1], "ModelSamplingContinuousEDM", ("edm", 120.0, 0.002))
    assert own.get_model_object("model_sampling").sigma_data == 0.5
    with families_of_v():
        losses, _, calls = trained(own)
    for call in calls[1:]:  # the first counts memory
        predicted, target, sigma, mask, prediction, data_std = call["given"]
        assert (mask, prediction, data_std) == (None, "v", 0.5)
        rows = ((predicted - target) ** 2).mean(dim=(1, 2, 3)) * (sigma**2 + 0.25) / 0.25
        assert abs(call["loss"] - float(rows.mean())) < 1e-5 * call["loss"]
    assert all(torch.tensor(losses).isfinite())


def test_v_prediction_with_zero_terminal_snr_trains_at_the_step_without_signal() -> None:
    own = with_sampling(worlds()[1], "ModelSamplingDiscrete", ("v_prediction", True))
    with families_of_v():
        losses, levels, _ = trained(own, timestep_range=(999, 999))
    assert max(levels) > 4000 and all(0 < loss < 100 for loss in losses), losses


def test_what_cannot_be_trained_is_refused_in_one_sentence_and_lcm_is_warned_of() -> None:
    shelf()
    for name, (node, values) in REFUSED.items():
        SHELF[name] = with_sampling(worlds()[1], node, values)
    SHELF["lcm"] = with_sampling(worlds()[1], "ModelSamplingDiscrete", ("lcm", False))
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        name: ({"train.base_model": [name, 0]}, "train", f"the model's sampling is {name}") for name in REFUSED
    }

    def check(folder: Path) -> None:
        graph = {**learning(), **{name: give(name) for name in (*REFUSED, "lcm")}}
        each_is_red(graph, cases)
        queue, told = Queue(), {}
        for name in ("lcm", "base_model"):
            assert queue.run(changed(graph, {"train.base_model": [name, 0]})) is None
            told[name] = queue.executor.history_result["outputs"]["train"]["ico_dci"][0]["warnings"]
        assert any("lcm" in line for line in told["lcm"]) and not told["base_model"], told

    in_new_folder(check)
