"""Muon: momentum whose matrices are made orthogonal before they step; AdamW for everything else.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; step size matched to AdamW's as
in Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982. In fp32 and over several processes, since that is
what this training runs on.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: pushes singular values towards one, fast
ITERATIONS = 5
MOMENTUM = 0.95
MATCH = 0.2  # Liu et al.: root mean square of AdamW's steps


def orthogonalised(matrix: Tensor) -> Tensor:
    """About the nearest orthogonal matrix, [m n], by Newton-Schulz steps."""
    a, b, c = QUINTIC
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Steps of weights of two and more dimensions, the first against all others; work is split among processes."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the gradients that the parameters hold."""
        count = distributed.get_world_size() if distributed.is_initialized() else 1
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        for group in self.param_groups:
            updates = []
            for number, parameter in enumerate(group["params"]):
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                assert parameter.grad is not None
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                ahead = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
                mine = number % count == rank
                updates.append((orthogonalised(ahead) if mine else torch.zeros_like(ahead)).reshape(-1))
            self.apply(group, torch.cat(updates))

    def apply(self, group: dict, flat: Tensor) -> None:  # type: ignore[type-arg]
        """Adds everybody's updates."""
        if distributed.is_initialized():
            distributed.all_reduce(flat)
        sizes = [p.numel() for p in group["params"]]
        for parameter, update in zip(group["params"], flat.split(sizes), strict=True):
            rows, columns = parameter.shape[0], parameter[0].numel()
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * MATCH * max(rows, columns) ** 0.5)


def make_optimisers(
    model: nn.Module, lr: float, weight_decay: float, matrices: tuple[str, ...]
) -> list[torch.optim.Optimizer]:
    """AdamW; and Muon for the weights of at least two dimensions under the named parts of the model."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if p.ndim > 1 and name.startswith(matrices)] if matrices else []
    chosen = {id(p) for p in hidden}
    others = [p for _, p in named if id(p) not in chosen]
    adamw = torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True)
    return [adamw, Muon(hidden, lr, weight_decay)] if hidden else [adamw]
