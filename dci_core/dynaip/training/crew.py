"""The processes that train together, on accelerate: one, or many by accelerate's own configuration (DDP, FSDP 2)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from ...errors import BadSettings

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.distributed.tensor import DTensor

Item = TypeVar("Item")
USABLE = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "FSDP")


class Crew:
    """This process among those that train together. Every process must make the same calls in the same order."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.rank, self.count = int(accelerator.process_index), int(accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def prepare(self, module: nn.Module, optimiser: torch.optim.AdamW) -> tuple[nn.Module, torch.optim.AdamW]:
        """Both as accelerate wants them: on the device, wrapped, sharded."""
        module, wrapped = self.accelerator.prepare(module, optimiser)
        return module, getattr(wrapped, "optimizer", wrapped)

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share of a batch, in order."""
        size = len(items) // self.count
        return items[self.rank * size : (self.rank + 1) * size]

    def waits(self, module: nn.Module, is_last: bool) -> AbstractContextManager[None]:
        """While this lasts gradients add up here, without the others; not in the last pass of an update."""
        return nullcontext() if is_last else self.accelerator.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss, added to those that are there; averaged over processes unless it `waits`."""
        self.accelerator.backward(loss)

    def clip(self, parameters: Sequence[Tensor], longest: float) -> float:
        """Length of the whole gradient before it is cut to `longest`; the same number in every process."""
        length = whole(torch.nn.utils.clip_grad_norm_(parameters, longest))
        return float(length)

    def mean(self, numbers: Tensor) -> list[float]:
        """Mean over all processes of numbers [k]."""
        total = numbers.detach().float().to(self.device)
        return list(self.accelerator.reduce(total, "mean").tolist())

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return flag if self.count == 1 else self.mean(torch.tensor([float(flag)]))[0] > 0

    def autocast(self) -> AbstractContextManager[None]:
        """While this lasts torch computes in bfloat16 where it may, if the training does."""
        return self.accelerator.autocast()

    def wait(self) -> None:
        """Returns when every process is here."""
        self.accelerator.wait_for_everyone()


def make_crew(*, bf16: bool = False, accumulation: int = 1, is_cpu: bool = False) -> Crew:
    """The crew that accelerate's configuration asks for; raises BadSettings for what this training cannot use."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import GradientAccumulationPlugin
    except ImportError as error:
        raise BadSettings(
            "accelerate is not installed",
            "it was expected for training an adapter",
            'install it: pip install "ico-dci[headless]"',
        ) from error
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16 else "no",
        cpu=is_cpu,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=accumulation, sync_with_dataloader=False),
    )
    kind = accelerator.distributed_type.name
    if kind not in USABLE or (kind == "FSDP" and not accelerator.is_fsdp2):
        raise BadSettings(
            f"accelerate is set up for {'FSDP version 1' if kind == 'FSDP' else kind}",
            "one process, DDP or FSDP version 2 was expected",
            "run `accelerate config` again, or set fsdp_version: 2",
        )
    return Crew(accelerator)


def is_sharded(x: Tensor) -> TypeGuard[DTensor]:
    """Whether each process holds a shard of the tensor alone."""
    return hasattr(x, "full_tensor")  # asking for the class itself would load a module that takes seconds


def whole(x: Tensor) -> Tensor:
    """The whole tensor, also where each process holds a shard of it; every process must ask."""
    return x.full_tensor() if is_sharded(x) else x


def local(x: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return x.to_local() if is_sharded(x) else x


@torch.no_grad()
def fill(x: Tensor, values: Tensor) -> None:
    """Writes whole values into a tensor, or into this process's shard of it."""
    if is_sharded(x):
        from torch.distributed.tensor import distribute_tensor

        values = distribute_tensor(values.to(x.device), x.device_mesh, x.placements)
    x.copy_(values)
