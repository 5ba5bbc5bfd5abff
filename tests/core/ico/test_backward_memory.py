"""Counting what a backward pass would keep."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dci_core.ico.backward_memory import KeptBytes

ROWS, WIDTH = 64, 32


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Sigmoid(), nn.Linear(WIDTH, WIDTH))


def test_it_counts_inputs_and_activations_once_and_no_weights() -> None:
    layers, x = network(), torch.randn(ROWS, WIDTH)
    with KeptBytes([layers]) as kept:
        layers(x)
    assert kept.count == 2 * ROWS * WIDTH * 4  # the input, and the sigmoid's output, which the second map saves too


def test_weights_that_it_is_not_told_of_count() -> None:
    layers, x = network(), torch.randn(ROWS, WIDTH, requires_grad=True)
    with KeptBytes() as kept:
        layers(x)
    assert kept.count == (2 * ROWS * WIDTH + 2 * WIDTH * WIDTH) * 4


def test_twice_the_rows_keep_twice_as_much() -> None:
    layers = network()
    counts = []
    for rows in (ROWS, 2 * ROWS):
        with KeptBytes([layers]) as kept:
            layers(torch.randn(rows, WIDTH))
        counts.append(kept.count)
    assert counts[1] == 2 * counts[0]


def test_nothing_is_kept_and_a_backward_pass_says_so() -> None:
    layers = network()
    with KeptBytes([layers]):
        out = layers(torch.randn(ROWS, WIDTH)).sum()
    with pytest.raises(RuntimeError, match="nothing was kept"):
        out.backward()
    layers(torch.randn(ROWS, WIDTH)).sum().backward()
    assert layers[0].weight.grad is not None


def test_without_gradients_nothing_counts() -> None:
    layers = network()
    with torch.no_grad(), KeptBytes([layers]) as kept:
        layers(torch.randn(ROWS, WIDTH))
    assert kept.count == 0
