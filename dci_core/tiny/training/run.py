"""The program that trains one part of the small world."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors.torch import save_file
from torch.multiprocessing.spawn import spawn

from .loop import steps_done, together, worker

log = logging.getLogger(__name__)


def main() -> None:
    """Trains and writes OUT/<stage>.safetensors in fp16."""
    parser = argparse.ArgumentParser(prog="python -m dci_core.tiny.training", description=__doc__)
    parser.add_argument("stage", choices=("codec", "text", "unet", "judge", "mmdit", "vision"))
    parser.add_argument("--cache", type=Path, default=Path("out/world"))
    parser.add_argument("--out", type=Path, default=Path("out/world"))
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each, gradients averaged")
    parser.add_argument("--steps", type=int, help="of the whole schedule, in place of the stage's own")
    parser.add_argument("--minutes", type=float, help="after which this run stops with a checkpoint")
    parser.add_argument("--begin-from", type=Path, help="weights to begin from where there is no checkpoint yet")
    options = parser.parse_args()
    if options.workers == 1:
        train(options)
    else:
        port = 29_500 + os.getpid() % 1000
        words = (options.workers, port, partial(train, options))
        spawn(together, words, nprocs=options.workers)  # type: ignore[no-untyped-call]  # torch gives it no types


def train(options: argparse.Namespace) -> None:
    """Trains the stage and writes its weights."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stage = importlib.import_module(f".{options.stage}", __package__)
    asked = {"steps": options.steps, "minutes": options.minutes, "begin_from": options.begin_from}
    settings = replace(stage.STAGE, **{name: value for name, value in asked.items() if value is not None})
    part = stage.train(options.cache, options.pictures, settings)
    done = steps_done(options.stage, options.cache)
    if done < settings.steps:
        log.info("%s stopped at step %d of %d; the same command goes on", options.stage, done, settings.steps)
        return
    weights = {k: v.half().contiguous() for k, v in part.state_dict().items()}
    if worker() == 0:
        save_file(weights, options.out / f"{options.stage}.safetensors")
