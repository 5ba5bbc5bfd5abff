"""Gradients as small as SDXL's survive in fp16 where the loss is scaled, and vanish where it is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dci_core.ico.data import TrainingData
from dci_core.ico.precision import FIRST_SCALE, LossScale
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import begin_training
from dci_core.ico.train import _Work
from dci_core.tiny.model import load_tiny_world

SMALLER = 4 * 128 * 128 / (8 * 16 * 16)  # SDXL's latent at 1024 px has so many times the tiny world's numbers
MODEL = load_tiny_world().model
DATA = TrainingData(torch.randn(2, 2, 8, 16, 16, generator=torch.Generator().manual_seed(4)))


def key_value_gradients(precision: str, scale: float) -> Tensor:
    """Those of one pass with a loss as small as SDXL's, the scale taken off; it is halved where it overflows."""
    settings = IcoSettings(steps=1, batch=2, modifier_tokens=2, precision=precision)  # type: ignore[arg-type]
    state = begin_training(MODEL, DATA, settings, noun="fish", rare_tokens={"clip_l": (5, 6, 7)})
    state.scale = LossScale(scale)
    work = _Work(MODEL, DATA, state, None)
    whole = work.losses

    def small(index: int, attempt: int = 0) -> tuple[Tensor, Tensor | None]:
        loss, prior = whole(index, attempt)
        return loss / SMALLER, None if prior is None else prior / SMALLER

    work.losses = small  # type: ignore[method-assign]
    chosen = {id(p) for p in state.learned.deltas.parameters()}
    while True:
        _, gradients = work._passes(0)
        pairs = zip(work.parameters, gradients, strict=True)
        found = torch.cat([g.flatten() for p, g in pairs if id(p) in chosen])
        if found.isfinite().all():
            return found.double() / state.scale.value
        state.scale.after_bad_step()


@pytest.mark.slow
def test_scaled_gradients_are_those_of_fp32_and_unscaled_ones_are_lost() -> None:
    wide = key_value_gradients("fp32", 1.0)
    there = wide != 0
    for scale, keeps in ((FIRST_SCALE, True), (1.0, False)):
        narrow = key_value_gradients("fp16", scale)
        lost = float(((narrow == 0) & there).sum() / there.sum())
        likeness = float(torch.cosine_similarity(wide, narrow, dim=0))
        print("MEASURED", scale, {"lost": lost, "cosine": likeness})
        assert (lost <= 0.005 and likeness >= 0.999) == keeps, (scale, lost, likeness)
    kept = key_value_gradients("bf16", 1.0)  # as wide a range as fp32's, so that nothing vanishes
    assert float(((kept == 0) & there).sum() / there.sum()) <= 0.005
