"""What all training stages share: the schedule, the resume, the workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dci_core.noise.schedule import sd_schedule
from dci_core.tiny.training import text
from dci_core.tiny.training.loop import Stage, averaged, chance, learning_rate, run_stage, steps_done
from dci_core.tiny.training.run import train
from dci_core.tiny.training.unet import start_as_identity, timestep_odds
from dci_core.tiny.unet import UNet

STAGE = Stage(steps=6, minutes=5, lr=1e-2, warm_up=2, save_every=3)
TWO_WORKERS = """
import sys
from pathlib import Path
import torch
from dci_core.tiny.training.loop import Stage, run_stage, together, worker

def work():
    torch.manual_seed(0)
    model, data = torch.nn.Linear(4, 3), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    loss_of = lambda step, generator: ((model(data[worker()::2]) - 1).square().mean(), {})
    minutes = 5 if len(sys.argv) < 5 else [0, 99][worker()]
    stage = Stage(steps=4, minutes=minutes, lr=1e-2, warm_up=2, save_every=2)
    list(run_stage("toy", model, loss_of, stage, Path(sys.argv[3])))

together(int(sys.argv[1]), 2, int(sys.argv[2]), work)
tasks = Path("/proc/self/task")  # of Linux
running = [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.is_dir() else []
assert not [name for name in running if "gloo" in name or "tcpstore" in name], running
"""


def train_toy(folder: Path, minutes: float = 5) -> dict[str, Any]:
    """Trains a small map until the step or time limit; the checkpoint."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))

    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(5, 4, generator=generator)
        return (model(x) - x[:, :3]).square().mean(), {}

    stage = Stage(STAGE.steps, minutes, STAGE.lr, STAGE.warm_up, save_every=STAGE.save_every)
    list(run_stage("toy", model, loss_of, stage, folder))
    saved: dict[str, Any] = torch.load(folder / "toy.pt", weights_only=True)
    return saved


def test_two_runs_are_one_run_bit_for_bit(tmp_path: Path) -> None:
    straight = train_toy(tmp_path / "straight")
    half = train_toy(tmp_path / "halves", minutes=0)
    assert half["step"] == 3 and not torch.equal(half["model"]["0.weight"], straight["model"]["0.weight"])
    resumed = train_toy(tmp_path / "halves")
    assert resumed["step"] == straight["step"] == 6
    for part in ("model", "average"):
        assert all(torch.equal(resumed[part][key], value) for key, value in straight[part].items())
    for number, state in straight["optimiser"]["state"].items():
        assert all(torch.equal(resumed["optimiser"]["state"][number][key], value) for key, value in state.items())


def test_a_finished_stage_is_not_trained_further(tmp_path: Path) -> None:
    first, again = train_toy(tmp_path), train_toy(tmp_path)
    assert all(torch.equal(again["model"][key], value) for key, value in first["model"].items())


def test_the_average_lags_behind_the_weights(tmp_path: Path) -> None:
    saved = train_toy(tmp_path)
    assert not torch.equal(saved["average"]["0.weight"], saved["model"]["0.weight"])
    assert all(torch.equal(averaged("toy", tmp_path)[key], value) for key, value in saved["average"].items())


def test_a_step_has_its_own_chance_whatever_came_before() -> None:
    first, again, other = (torch.rand(3, generator=chance(STAGE, step)) for step in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_learning_rate_rises_stays_and_falls() -> None:
    stage = Stage(steps=1000, minutes=1, lr=0.5, warm_up=100)
    assert [learning_rate(step, stage) for step in (0, 49)] == pytest.approx([0.005, 0.25])
    assert {learning_rate(step, stage) for step in (99, 300, 700)} == {0.5}
    assert learning_rate(850, stage) == pytest.approx(0.25)
    assert learning_rate(999, stage) == pytest.approx(0.5 * 0.02)
    falling = [learning_rate(step, stage) for step in range(700, 1000)]
    assert falling == sorted(falling, reverse=True)


def train_by_two(folder: Path, *more: str) -> list[int]:
    """Runs TWO_WORKERS; the exit status of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = [[sys.executable, "-c", TWO_WORKERS, str(rank), port, str(folder), *more] for rank in range(2)]
    running = [subprocess.Popen(line, env=there, cwd=folder.parent) for line in words]
    return [process.wait(timeout=120) for process in running]


def test_workers_stop_together_by_the_first_one_s_clock(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    assert train_by_two(folder, "the first has no time, the second plenty") == [0, 0]
    assert steps_done("toy", folder) == 2


def test_a_stage_stopped_by_its_time_ships_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"step": 3}, tmp_path / "text.pt")
    monkeypatch.setattr(text, "train", lambda cache, pictures, stage: nn.Linear(2, 2))
    options = Namespace(stage="text", cache=tmp_path, out=tmp_path, pictures=1, steps=4, minutes=None, begin_from=None)
    train(options)
    assert not (tmp_path / "text.safetensors").exists()
    options.steps = 3
    train(options)
    assert (tmp_path / "text.safetensors").exists()


def test_a_stage_may_begin_from_the_part_that_ships(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    begun = {"weight": torch.full((2, 2), 7.0), "bias": torch.full((2,), 5.0)}
    save_file(begun, tmp_path / "part.safetensors")
    stage = replace(STAGE, begin_from=tmp_path / "part.safetensors", steps=0)
    list(run_stage("toy", model, lambda step, generator: (torch.zeros(()), {}), stage, tmp_path, shipped=model[0]))
    assert torch.equal(model[0].weight, begun["weight"]) and not torch.equal(model[1].weight, begun["weight"])


def test_two_workers_train_as_one_with_both_batches(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    assert train_by_two(folder) == [0, 0]

    torch.manual_seed(0)
    model, data = nn.Linear(4, 3), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    stage = Stage(steps=4, minutes=5, lr=1e-2, warm_up=2)
    list(run_stage("toy", model, lambda step, generator: ((model(data) - 1).square().mean(), {}), stage, tmp_path))
    saved = torch.load(folder / "toy.pt", weights_only=True)["model"]
    assert all(torch.allclose(saved[key], value, atol=1e-5) for key, value in model.state_dict().items())


def test_a_u_net_begins_by_drawing_nothing() -> None:
    unet = UNet()
    x, at, text = torch.randn(1, 8, 16, 16), torch.tensor([500]), torch.randn(1, 77, 128)
    with torch.no_grad():
        assert unet(x, at, text).any()
        start_as_identity(unet)
        assert not unet(x, at, text).any()


def test_clean_timesteps_are_trained_more_rarely() -> None:
    odds, sigmas = timestep_odds(), sd_schedule().log_sigmas.exp()
    naive = [min(1.0, max(0.1, 5.0 * float(sigma) ** 2)) for sigma in sigmas]
    assert odds.tolist() == pytest.approx(naive, rel=1e-5)


def test_a_group_s_ratio_multiplies_the_schedule_s_rate(tmp_path: Path) -> None:
    model, seen = nn.Linear(2, 2), list[list[float]]()

    def made(part: nn.Module, stage: Stage) -> torch.optim.Optimizer:
        weight, bias = part.parameters()
        groups: list[dict[str, Any]] = [{"params": [weight], "ratio": 3.0}, {"params": [bias]}]
        optimiser = torch.optim.SGD(groups, lr=stage.lr)
        optimiser.register_step_pre_hook(lambda *_: seen.append([g["lr"] for g in optimiser.param_groups]))
        return optimiser

    steps = run_stage(
        "toy", model, lambda step, g: (model(torch.ones(1, 2)).sum(), {}), STAGE, tmp_path, make_optimiser=made
    )
    list(steps)
    rates = [learning_rate(step, STAGE) for step in range(STAGE.steps)]
    assert seen == [[3.0 * rate, rate] for rate in rates]
