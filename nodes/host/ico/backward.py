"""What the backward pass of a step takes, counted before the first step, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ....dci_core.ico.backward_memory import KeptBytes
from ....dci_core.ico.data import TrainingData
from ....dci_core.ico.estimate import needs_of
from ....dci_core.ico.memory import GIB
from ....dci_core.ico.state import TrainState
from ....dci_core.ico.train import count_backward
from ..page.live import note
from .model import HostModel
from .residence import compute_dtype
from .thaw import blocks_replaced

log = logging.getLogger(__name__)
FREE_SHARE = 0.8  # of the free memory that a backward pass may take: what else a step needs is not counted
TEXT_DTYPE = torch.float32  # that text encoders compute in, as the host has them do


def is_short_of_memory(host: HostModel, data: TrainingData, state: TrainState) -> bool:
    """Whether a backward pass that keeps everything does not fit into what is free now: then blocks are computed again.

    What it would keep is counted in the first step's forward pass, which keeps nothing. Where blocks that are computed
    again do not fit either, the node says so before the first step.
    """
    from comfy.model_management import get_free_memory

    network, text = host.model.model.diffusion_model, host.clip.cond_stage_model
    learned, device = needs_of(state).memory, state.learned.deltas.device
    with counting((network, compute_dtype(host.model)), (text, TEXT_DTYPE)) as kept:
        count_backward(host, data, state, kept, sigmas=host.sigmas(), casts=False)
    free = get_free_memory(device)
    whole, least = kept.count + learned, kept.recomputed + learned
    is_short = whole > FREE_SHARE * free
    log.info(
        "a step keeps %.1f GiB, %.1f GiB are free: blocks are %s",
        whole / GIB, free / GIB,
        f"computed again in the backward pass, which takes {least / GIB:.1f} GiB" if is_short else "kept for it",
    )  # fmt: skip
    if least > free:
        note(
            f"a step takes about {least / GIB:.1f} GiB beside the models, and {free / GIB:.1f} GiB of {device} are "
            "free: it may run out of memory; lower batch or size_px, set prior to none, or set memory to your card"
        )
    return is_short


@contextmanager
def counting(*networks: tuple[nn.Module, torch.dtype]) -> Iterator[KeptBytes]:
    """Inside, what blocks of these networks keep is told from the rest.

    networks  each with the type that it computes in
    """
    kept = KeptBytes([network for network, _ in networks])
    with ExitStack() as stack:
        for network, dtype in networks:
            stack.enter_context(blocks_replaced(network, partial(watched, kept, dtype)))
        yield kept


def watched(kept: KeptBytes, dtype: torch.dtype, block: nn.Module) -> Callable[..., Any]:
    """A block's forward that is counted."""
    return kept.watched(block.forward, [w.numel() * dtype.itemsize for w in block.parameters() if w.dtype != dtype])
