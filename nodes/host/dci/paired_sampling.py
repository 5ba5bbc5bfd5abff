"""Both latents as one batch inside a sampler, for a guider that knows the pictures alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ....dci_core.dci.branches import pair, unpair


class Paired:
    """A guider that samplers call with both latents in one batch; in all else it is the guider."""

    def __init__(self, guider: Any, predict: Callable[..., Tensor]) -> None:
        self.guider, self.predict = guider, predict

    def __getattr__(self, name: str) -> Any:
        return getattr(self.guider, name)

    def __call__(self, x: Tensor, sigma: Tensor, model_options: Any = None, seed: int | None = None) -> Tensor:
        return self.predict(x, sigma, model_options or {}, seed)


def finished(
    after: list[Any], x0: Tensor, x: Tensor, levels: Tensor, concept: list[Tensor], auxiliary: list[Tensor],
    options: dict[str, Any],
) -> Tensor:  # fmt: skip
    """x0 of both latents as the sampler's own functions after the guidance leave it."""
    if after:
        cond, uncond = (pair(here, there) for here, there in zip(concept, auxiliary, strict=True))
        for function in after:
            args = {"denoised": x0, "cond_denoised": cond, "uncond_denoised": uncond, "sigma": levels, "input": x}
            x0 = function({**args, "model_options": options})
    return x0


def for_both(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of the inpaint mask that sees the mask of the pictures, once, for both branches."""

    def masked(sigma: Tensor, mask: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if mask.shape[0] == 1:
            return function(sigma[:1], mask, *args, **kwargs)
        concept, auxiliary = (function(sigma[::2], part, *args, **kwargs) for part in unpair(mask))
        return pair(concept, auxiliary)

    return masked
