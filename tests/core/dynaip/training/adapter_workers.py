"""One of several processes that train the toy's adapter: adapter_workers.py FILE ddp|sharded [STEPS|resume]."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from toy_flow import QUICK, ToyFlow, ToyPairs, steady, toy_adapter  # a script's own folder is on its path

from dci_core.dynaip.training.checkpoint import load_training, save_training
from dci_core.dynaip.training.crew import Crew, make_crew
from dci_core.dynaip.training.state import averaged, begin_training
from dci_core.dynaip.training.steps import train_adapter

BASE, PAIRS = ToyFlow(), ToyPairs()


class ShardingCrew(Crew):
    """Shards as accelerate's FSDP 2 does; accelerate itself does so on GPUs alone."""

    def prepare(self, module: nn.Module, optimiser: torch.optim.AdamW) -> tuple[nn.Module, torch.optim.AdamW]:
        fully_shard(module)
        groups = optimiser.param_groups[0]
        return module, torch.optim.AdamW(module.parameters(), lr=groups["lr"], weight_decay=groups["weight_decay"])


def main(out: Path, kind: str, more: str = "") -> None:
    crew = make_crew(is_cpu=True)
    if kind == "sharded":
        crew = ShardingCrew(crew.accelerator)
    assert crew.count == 2
    training = steady(begin_training(BASE, toy_adapter(), PAIRS, QUICK, crew))
    if more == "resume":
        load_training(out, training)
    steps = train_adapter(BASE, PAIRS, training, crew)
    list(itertools.islice(steps, int(more)) if more.isdecimal() else steps)
    assert crew.any(crew.rank == 1) and not crew.any(False)
    averaged(training)
    save_training(training, out, crew)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
