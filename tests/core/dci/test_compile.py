"""Under torch.compile: no graph break of ours, one compilation more where the window ends, the same pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from dci_core.dci.branches import DciSettings
from dci_core.dci.run import SampleSettings, sample_latents
from dci_core.text.prompts import Prompts
from dci_core.text.tokens import PromptPair
from dci_core.tiny.model import TinyModel
from dci_core.tiny.unet import UNet
from dci_core.tiny.unet_blocks import UNetParams

STEPS = SampleSettings(num_steps=6, cfg=6.0, spacing="normal")
DCI = DciSettings(window=0.5, guidance="separate")
SETTINGS = [replace(DCI, guidance="shared"), replace(DCI, one_auxiliary=True, region=torch.ones(16, 16))]
SMALL = UNetParams(channel_mult=(1,))  # four cross-attentions, all at one size: enough to see a break


@pytest.fixture
def compiled() -> Iterator[TinyModel]:
    """The small world's model with its U-Net compiled; a graph break is an error."""
    torch.compiler.reset()
    counters.clear()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        small = UNet(SMALL).eval().requires_grad_(False)
    yield TinyModel(TinyModel.random(1).text, torch.compile(small, backend="eager", fullgraph=True, dynamic=False))
    torch.compiler.reset()


def run(model: TinyModel, dci: DciSettings | None, seeds: list[int], records: bool = False) -> Tensor:
    words = {"trigger": "", "noun": "fish", "auxiliary": "cat", "encoder": model.encoders["clip_l"]}
    prompts = Prompts.from_pair(model, PromptPair.from_template("a {concept} in the snow", **words))
    with torch.no_grad():
        return sample_latents(model, prompts, seeds=seeds, settings=STEPS, dci=dci, records_weights=records).concept


def graphs() -> int:
    """Compilations so far."""
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("dci", SETTINGS, ids=["shared", "one auxiliary and a region"])
def test_a_run_compiles_twice_without_a_break_and_a_second_run_never(compiled: TinyModel, dci: DciSettings) -> None:
    plain = TinyModel(compiled.text, compiled.unet._orig_mod)
    torch.testing.assert_close(run(compiled, dci, [3]), run(plain, dci, [3]))
    assert graphs() == 2 and not counters["graph_break"]  # inside the window, and after it


def test_a_record_of_the_weights_compiles_no_more_often(compiled: TinyModel) -> None:
    run(compiled, DCI, [3], records=True)
    assert graphs() == 2 and not counters["graph_break"]


def test_plain_sampling_and_a_closed_window_compile_once(compiled: TinyModel) -> None:
    plain = run(compiled, None, [3])
    assert torch.equal(run(compiled, DciSettings(window=0.0), [3]), plain)
    assert graphs() == 1
