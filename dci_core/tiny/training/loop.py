"""What all training stages share: time limit, checkpoint, resume, progress, moving average."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

log = logging.getLogger(__name__)
Part = TypeVar("Part", bound=nn.Module)


class Optimiser(Protocol):
    """What the loop asks of an optimiser; a group with a "ratio" gets the schedule's learning rate times that."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with their settings."""

    def step(self) -> None:
        """One step from the gradients that are there."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state dict."""


MakeOptimiser = Callable[[nn.Module, "Stage"], Optimiser]


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    steps      of the whole schedule, over all runs
    minutes    after which this run stops with a checkpoint
    begin_from weights (safetensors) that a run without checkpoint begins with
    lr         learning rate after warm_up steps, falling in a line to a fiftieth over the last 30%
    """

    steps: int
    minutes: float
    lr: float
    warm_up: int = 100
    average: float = 0.999
    weight_decay: float = 0.01
    seed: int = 1
    save_every: int = 500
    begin_from: Path | None = None


def learning_rate(step: int, stage: Stage) -> float:
    """Warm-up, a plateau that more steps can lengthen, then a straight fall."""
    rise = min(1.0, (step + 1) / stage.warm_up)
    fall = max(0.02, min(1.0, (stage.steps - step) / (0.3 * stage.steps)))
    return stage.lr * rise * fall


def chance(stage: Stage, step: int) -> torch.Generator:
    """The generator of one step of this worker: it depends on nothing else, so there is no state to save."""
    number = ((stage.seed * 1_000_003 + step) * 64 + worker()) % 2**62
    return torch.Generator().manual_seed(number)


def worker() -> int:
    """This process's number among those that train together."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def together(rank: int, count: int, port: int, work: Callable[[], None]) -> None:
    """Runs work as one of count processes that average gradients; one thread each. No thread of the group is left."""
    import torch.distributed.nn  # imported later, by an optimiser, it holds the group and its threads to the end

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    work()
    distributed.destroy_process_group()


def channels_last(module: Part) -> Part:
    """The module with its weights laid out channels last, which convolutions on CPU like."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types leave it out


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Gradients of all workers, averaged in place."""
    if distributed.is_initialized():
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def adamw(model: nn.Module, stage: Stage) -> Optimiser:
    """AdamW over all that is trained."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=stage.lr, weight_decay=stage.weight_decay, betas=(0.9, 0.99), fused=True)


def run_stage(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]],
    stage: Stage,
    folder: Path,
    shipped: nn.Module | None = None,
    make_optimiser: MakeOptimiser = adamw,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Trains model in place, yielding (step, figures); continues from folder/name.pt where there is one.

    loss_of(step, generator) must draw all its chance from the generator, so that a resumed run is the straight one.
    shipped is the part of the model that stage.begin_from holds; None: all of it.
    """
    # The state: from the file where there is one, else from the start
    folder.mkdir(parents=True, exist_ok=True)
    file, start = folder / f"{name}.pt", time.monotonic()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = make_optimiser(model, stage)
    if stage.begin_from is not None:
        (shipped or model).load_state_dict({key: value.float() for key, value in load_file(stage.begin_from).items()})
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    step = 0
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step = saved["average"], saved["step"]
        log.info("%s continues at step %d", name, step)

    def save() -> None:
        part = file.with_suffix(".part")
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step}
        if worker() == 0:
            torch.save(state, part)
            part.replace(file)

    # One optimiser step and one yield a turn
    while step < stage.steps:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, stage) * group.get("ratio", 1.0)
        loss, figures = loss_of(step, chance(stage, step))
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            follow(average, model.state_dict(), min(stage.average, (1 + step) / (10 + step)))
        if step % stage.save_every == 0:
            save()
            if is_late(start, stage):
                return
        yield step, {"loss": float(loss.detach())} | figures
    save()


def is_late(start: float, stage: Stage) -> bool:
    """Whether the run's time is over, by the first worker's clock: all of them must stop at the same step."""
    late = torch.tensor(time.monotonic() - start > 60 * stage.minutes)
    if distributed.is_initialized():
        distributed.broadcast(late, src=0)
    return bool(late)


def follow(average: dict[str, Tensor], values: dict[str, Tensor], keep: float) -> None:
    """Moves a moving average towards the values."""
    floating = [key for key, value in values.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[key] for key in floating], [values[key] for key in floating], 1 - keep)


def averaged(name: str, folder: Path) -> dict[str, Tensor]:
    """The moving average of a stage's weights."""
    saved: dict[str, Tensor] = torch.load(folder / f"{name}.pt", weights_only=True)["average"]
    return saved


def steps_done(name: str, folder: Path) -> int:
    """How many steps of a stage its checkpoint has behind it."""
    return int(torch.load(folder / f"{name}.pt", weights_only=True)["step"])


def report(name: str, steps: Iterator[tuple[int, dict[str, float]]], total: int, every: int = 50) -> None:
    """Runs a stage to its end, logging means of its figures and the time left."""
    sums: dict[str, float] = {}
    began, first = time.monotonic(), None
    for step, figures in steps:
        first = first or step
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + value
        if step % every == 0 and worker() == 0:
            pace = (time.monotonic() - began) / (step - first + 1)
            words = "  ".join(f"{key} {value / every:.4f}" for key, value in sums.items())
            left = pace * (total - step) / 60
            log.info("%s %d/%d  %s  %.2f s/step  %.0f min left", name, step, total, words, pace, left)
            sums = {}
