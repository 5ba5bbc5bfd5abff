"""Trainings that are killed at random points: killed_trainings.py FOLDER KILLS SEED. Prints what was found, as JSON.

Each child goes on from the training's file, keeps it after every step and saves its concept over and over, until it is
killed (SIGKILL) after a random time. Then both files must load, none may have gone back, and a stranger's file stays.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
from toy_model import RARE, ToyModel, toy_data  # tests/core is on the path

from dci_core.concept.file import load_concept, save_concept
from dci_core.files import remove_spares
from dci_core.ico.checkpoint import load_state, save_state
from dci_core.ico.keeping import Keeper
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training
from dci_core.ico.train import train_steps

MODEL, DATA, SETTINGS = ToyModel.random(), toy_data(), IcoSettings(steps=1_000_000, learning_rate=1e-3)


def state_at(path: Path) -> TrainState:
    """The training as far as its file has it."""
    parts = {"noun": "dog", "widths": MODEL.kv_shapes(), "rare_tokens": RARE}
    return (
        load_state(path, MODEL, DATA, SETTINGS, **parts)
        if path.exists()
        else begin_training(MODEL, DATA, SETTINGS, **parts)
    )


def train(folder: Path, told: int) -> None:
    """Goes on until it is killed; writes to `told` once it does, and after every step that is kept."""
    torch.set_num_threads(1)
    state = state_at(folder / "x.training")
    keeper = Keeper(folder / "x.training", partial(save_state, state), seconds=0)
    os.write(told, b"1")
    for _ in train_steps(MODEL, DATA, state):
        keeper.after_step()
        save_concept(make_concept(state, trigger="zorp", rank=2), folder / "x.safetensors")
        os.write(told, b"2")


def main(folder: Path, kills: int, seed: int) -> None:
    source = random.Random(seed)
    stranger = folder / "stranger.safetensors"
    stranger.write_bytes(b"not ours")
    steps, saved, spares = [0], [0], 0
    for number in range(kills):
        heard, told = os.pipe()
        child = os.fork()
        if not child:
            train(folder, told)
        os.close(told)
        assert os.read(heard, 1) == b"1"
        assert not number % 2 or os.read(heard, 1) == b"2"  # every second one gets somewhere, however busy the machine
        time.sleep(source.uniform(0.02, 0.4))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        os.close(heard)
        spares += len(list(folder.glob(".*.part")))
        if (folder / "x.training").exists():
            steps.append(state_at(folder / "x.training").step)
        if (folder / "x.safetensors").exists():
            saved.append(int(load_concept(folder / "x.safetensors").about.loss["steps"]))
        assert stranger.read_bytes() == b"not ours"
    Keeper(folder / "x.training", lambda path: None)  # the next one takes away what killed writers left
    remove_spares(folder / "x.safetensors")
    left = sorted(path.name for path in folder.iterdir())
    print(json.dumps({"steps": steps, "saved": saved, "cut_short": spares, "left": left}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
