"""Muon: momentum made orthogonal, for the matrices inside a transformer; AdamW beside it for all else.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers" (the quintic's three numbers are theirs); the step's
size as in Liu et al. 2025 (arXiv 2502.16982), so that AdamW's weight decay and scale of rates carry over. PyTorch's own
`torch.optim.Muon` works in bfloat16, which takes a CPU without bfloat16 arithmetic ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)
NUM_ROUNDS = 5
MATCH_ADAMW = 0.2  # root mean square of AdamW's usual step, in learning rates


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [rows columns] with its singular values drawn near 1."""
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    one, three, five = QUINTIC
    for _ in range(NUM_ROUNDS):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=three, alpha=five), x, beta=one)
    return x.mT if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; every parameter a matrix."""

    def __init__(self, matrices: Sequence[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no line search here
        """One step from the gradients that are there."""
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                kept = state.setdefault("momentum", torch.zeros_like(parameter))
                kept.lerp_(parameter.grad, 1 - group["momentum"])
                change = orthogonal(parameter.grad.lerp(kept, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(change, alpha=-group["lr"] * MATCH_ADAMW * max(parameter.shape) ** 0.5)


class MuonAndAdamW:
    """Muon for some parameters and AdamW for the others, as one optimiser.

    matrices  parameters of two axes
    others    all others
    ratio     Muon's learning rate over AdamW's
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        lr: float,
        weight_decay: float,
        ratio: float,
    ) -> None:
        self.muon = Muon(matrices, lr, weight_decay)
        self.adamw = torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True)
        for group in self.muon.param_groups:
            group["ratio"] = ratio

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both; "ratio" is what a group's learning rate is times the schedule's."""
        return [*self.muon.param_groups, *self.adamw.param_groups]

    def step(self) -> None:
        """One step of both."""
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state dict."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
