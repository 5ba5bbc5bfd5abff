"""How far 40 steps of the tiny world come: in narrower precision, and as factors that learn faster."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from statistics import fmean

import torch

from dci_core.concept.apply import apply_concept
from dci_core.ico.data import TrainingData
from dci_core.ico.rank import rank_rate
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, family_widths
from dci_core.ico.train import _Work, train_steps
from dci_core.studies.gates.concepts import begin
from dci_core.studies.gates.trial import asks_for
from dci_core.tiny.defaults import TINY_ICO
from dci_core.tiny.judge import Judge
from dci_core.tiny.model import TinyModel, load_part, load_tiny_world
from dci_core.tiny.world.concepts import CONCEPTS

from .concepts import MOST_LIKENESS, PROMPTS, SEEDS, mean_likeness
from .measure import Bench, Figure

STEPS = 40
FIXED_DRAWS, BEYOND = 12, 10**6  # draws that a loss is read at, and a step that no training reaches
LOOKED_AT = (10, 20, 40)
RANKS = ((None, True), (32, True), (16, True), (4, True), (16, False), (4, False))  # rank, whether it learns faster
RANK_ICO = IcoSettings(steps=STEPS, batch=2, learning_rate=2.5e-4, scale_rate=False, prior="none")


def precision_case(bench: Bench) -> list[Figure]:
    """The likeness that 40 steps in bf16 and in fp16 reach, against those in fp32: same draws, same noise."""
    untrained, _ = likeness_after(0, "fp32")
    plain, _ = likeness_after(STEPS, "fp32")
    found = []
    for precision in ("bf16", "fp16"):
        likeness, skipped = likeness_after(STEPS, precision)
        what = (
            f"tiny world, concept 0, {STEPS} steps: likeness {untrained:.3f} untrained, {plain:.3f} in fp32, "
            f"{likeness:.3f} in {precision}, {skipped} passes skipped, {PROMPTS} prompts x {len(SEEDS)} pictures"
        )
        away, where = abs(likeness - plain), ("cpu", precision)
        found.append(Figure(f"train_precision_{precision}", away, None, 0.0, *where, what, MOST_LIKENESS))
    gained = f"tiny world, concept 0: what {STEPS} steps in fp32 add to the likeness of the untrained concept"
    return [*found, Figure("train_precision_gain", plain - untrained, None, 0.0, "cpu", "fp32", gained)]


def likeness_after(steps: int, precision: str) -> tuple[float, int]:
    """(mean likeness of pictures after so many steps, passes that were skipped on the way)."""
    world, thing, judge = load_tiny_world(), CONCEPTS[0], load_part("judge", Judge())
    assert isinstance(judge, Judge)
    settings = replace(TINY_ICO, steps=STEPS, precision=precision)  # type: ignore[arg-type]
    data, state = begin(world, thing, "varied", settings)
    for _ in islice(train_steps(world.model, data, state), steps):
        pass
    concept = make_concept(state, trigger="zorp", rank=None, precision="fp32")
    model = apply_concept(world.model, concept)
    return mean_likeness(world, model, judge, asks_for(thing)[:PROMPTS], thing), state.skipped


def rank_case(bench: Bench) -> list[Figure]:
    """What 40 steps at each rank lower the loss by, against full rank: 1 where factors learn as fast."""
    world, widths, lowered, texts = load_tiny_world(), family_widths("tiny"), {}, {}
    for rank, is_faster in RANKS:
        rate = rank_rate(rank, widths) if is_faster else 1.0
        data, state = begin(world, CONCEPTS[0], "varied", replace(RANK_ICO, rank=rank, rank_rate=rate))
        losses = [fixed_loss(world.model, data, state)]
        for report in train_steps(world.model, data, state):
            if report.step in LOOKED_AT:
                losses.append(fixed_loss(world.model, data, state))
        lowered[rank, is_faster] = losses[0] - losses[-1]
        after = ", ".join(f"{loss:.4f}" for loss in losses[1:])
        texts[rank, is_faster] = f"{rate:g} times faster: {losses[0]:.4f}, after 10, 20, 40 steps {after}"
    return [
        Figure(
            f"train_rank_{rank}{'' if is_faster else '_unscaled'}", lowered[rank, is_faster] / lowered[None, True],
            None, 0.0, "cpu", "float32", f"tiny world, concept 0, rank {rank}, {texts[rank, is_faster]}",
        )
        for rank, is_faster in RANKS
    ]  # fmt: skip


def fixed_loss(model: TinyModel, data: TrainingData, state: TrainState) -> float:
    """The concept's loss on draws that no training makes; the state stays as it is."""
    step, found = state.step, []
    with torch.no_grad():
        for draw in range(FIXED_DRAWS):
            state.step = BEYOND + draw
            found.append(float(_Work(model, data, state, None).losses(0)[0]))
    state.step = step
    return fmean(found)
