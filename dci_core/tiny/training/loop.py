"""What all training stages share: time limit, checkpoint, resume, progress, moving average."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    steps      of the whole schedule, over all runs
    minutes    after which this run stops with a checkpoint
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


def learning_rate(step: int, stage: Stage) -> float:
    """Warm-up, a plateau that more steps can lengthen, then a straight fall."""
    rise = min(1.0, (step + 1) / stage.warm_up)
    fall = max(0.02, min(1.0, (stage.steps - step) / (0.3 * stage.steps)))
    return stage.lr * rise * fall


def run_stage(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]],
    stage: Stage,
    folder: Path,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Trains model in place, yielding (step, figures); continues from folder/name.pt where there is one.

    loss_of(step, generator) must draw all its chance from the generator, so that a resumed run is the straight one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, start = folder / f"{name}.pt", time.monotonic()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=stage.lr, weight_decay=stage.weight_decay, betas=(0.9, 0.99))
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    generator, step = torch.Generator().manual_seed(stage.seed), 0
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step = saved["average"], saved["step"]
        generator.set_state(saved["generator"])
        log.info("%s continues at step %d", name, step)

    def save() -> None:
        part = file.with_suffix(".part")
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average, "step": step}
        torch.save(state | {"generator": generator.get_state()}, part)
        part.replace(file)

    while step < stage.steps and time.monotonic() - start < 60 * stage.minutes:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, stage)
        loss, figures = loss_of(step, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        keep = min(stage.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                average[key].lerp_(value, 1 - keep) if value.is_floating_point() else average[key].copy_(value)
        if step % stage.save_every == 0:
            save()
        yield step, {"loss": float(loss.detach())} | figures
    save()


def averaged(name: str, folder: Path) -> dict[str, Tensor]:
    """The moving average of a stage's weights."""
    saved: dict[str, Tensor] = torch.load(folder / f"{name}.pt", weights_only=True)["average"]
    return saved


def report(name: str, steps: Iterator[tuple[int, dict[str, float]]], total: int, every: int = 50) -> None:
    """Runs a stage to its end, logging means of its figures and the time left."""
    sums: dict[str, float] = {}
    began, first = time.monotonic(), None
    for step, figures in steps:
        first = first or step
        for key, value in figures.items():
            sums[key] = sums.get(key, 0.0) + value
        if step % every == 0:
            pace = (time.monotonic() - began) / (step - first + 1)
            words = "  ".join(f"{key} {value / every:.4f}" for key, value in sums.items())
            log.info("%s %d/%d  %s  %.2f s/step  %.0f min left", name, step, total, words, pace, pace * (total - step) / 60)
            sums = {}
