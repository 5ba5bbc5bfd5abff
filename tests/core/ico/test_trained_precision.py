"""What narrow precision costs in likeness, by the case of the bench that the note on performance quotes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench_cases.measure import Bench
from bench_cases.trainings import precision_case

sys.path.pop(0)


@pytest.mark.slow
def test_forty_steps_in_bf16_and_fp16_reach_the_likeness_of_fp32() -> None:
    figures = {figure.case: figure for figure in precision_case(Bench(torch.device("cpu"), torch.float32))}
    for figure in figures.values():
        print("MEASURED", figure.case, figure.what)
    gained = figures.pop("train_precision_gain").ratio
    assert gained is not None and gained > 0.1  # so that there is a likeness to lose
    for figure in figures.values():
        assert figure.ratio is not None and figure.target == 0.02 and figure.ratio <= figure.target, figure
