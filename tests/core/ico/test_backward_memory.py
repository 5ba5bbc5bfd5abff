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


def test_blocks_that_are_computed_again_keep_their_input_and_the_largest_of_them_twice() -> None:
    blocks, x = [network() for _ in range(4)], torch.randn(ROWS, WIDTH)
    with KeptBytes(blocks) as kept:
        for block in blocks:
            x = kept.watched(block.forward)(x)
        x.square()
    row = ROWS * WIDTH * 4
    assert kept.count == (2 * 4 + 1) * row  # two a block, and what the square reads
    assert kept.recomputed == (4 + 1 + 2 * 2) * row  # an input a block, the square's, and twice a block


def test_a_block_inside_a_block_belongs_to_it() -> None:
    inner, x = network(), torch.randn(ROWS, WIDTH)
    with KeptBytes([inner]) as kept:
        kept.watched(lambda given: kept.watched(inner.forward)(given).square())(x)
    assert kept.recomputed == (1 + 2 * 3) * ROWS * WIDTH * 4


def test_weights_that_a_block_casts_are_kept_and_have_no_gradients() -> None:
    block, x = network().requires_grad_(False), torch.randn(ROWS, WIDTH, requires_grad=True)
    cast, row = WIDTH * WIDTH * 4, ROWS * WIDTH * 4
    with KeptBytes() as kept:  # which takes the weights themselves for casts: it was not told of them
        kept.watched(block.forward, [cast, cast, 8 * cast])(x)  # of which the last is none that is kept
    assert kept.recomputed == row + 2 * cast + 2 * row  # the input; the sigmoid's output with its gradient


def test_without_gradients_nothing_counts() -> None:
    layers = network()
    with torch.no_grad(), KeptBytes([layers]) as kept:
        layers(torch.randn(ROWS, WIDTH))
    assert kept.count == 0
