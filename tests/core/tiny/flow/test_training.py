"""Training of the small MM-DiT and its vision tower: Muon, the drawn times, and the resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dci_core.flux.transformer import MMDiT
from dci_core.tiny.flow.model import TINY_FLOW
from dci_core.tiny.model import WEIGHTS
from dci_core.tiny.training import mmdit, vision
from dci_core.tiny.training.loop import Stage
from dci_core.tiny.training.muon import Muon, MuonAndAdamW, orthogonal

STAGE = Stage(steps=4, minutes=5, lr=1e-3, warm_up=2, save_every=2)
COUNT = 6


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
def test_a_matrix_is_made_orthogonal_but_for_a_little(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    near, values = orthogonal(matrix), torch.linalg.svdvals(orthogonal(matrix))
    assert near.shape == matrix.shape and float(values.min()) > 0.5 and float(values.max()) < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert float((near * (left @ right)).sum()) > 0.8 * min(shape)  # towards the nearest orthogonal matrix


def test_a_step_of_muon_is_as_large_as_one_of_adamw_whatever_the_gradient() -> None:
    for size in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(64, 64))
        weight.grad = size * torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
        Muon([weight], lr=0.1, weight_decay=0.0).step()
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.25)


def test_the_maps_of_the_blocks_go_to_muon_and_all_else_to_adamw() -> None:
    model = MMDiT(replace(TINY_FLOW, double_blocks=1, single_blocks=1))
    optimiser = mmdit.muon_for_blocks(model, STAGE)
    assert isinstance(optimiser, MuonAndAdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon = {names[id(p)] for group in optimiser.muon.param_groups for p in group["params"]}
    by_adamw = {names[id(p)] for group in optimiser.adamw.param_groups for p in group["params"]}
    streams = ("qkv", "proj"), ("0", "2")
    expected = {f"double_blocks.0.{s}_attn.{part}.weight" for s in ("img", "txt") for part in streams[0]}
    expected |= {f"double_blocks.0.{s}_mlp.{part}.weight" for s in ("img", "txt") for part in streams[1]}
    assert by_muon == expected | {f"single_blocks.0.linear{i}.weight" for i in (1, 2)}
    assert by_muon.isdisjoint(by_adamw) and len(by_muon | by_adamw) == len(names)


def test_times_are_spread_evenly_over_their_odds() -> None:
    drawn = mmdit.times(1000, torch.Generator().manual_seed(1))
    assert float(drawn.min()) > 0 and float(drawn.max()) < 1
    assert float(drawn.median()) == pytest.approx(mmdit.SHIFT / (1 + mmdit.SHIFT), abs=0.01)
    few = [mmdit.times(4, torch.Generator().manual_seed(i)).sort().values for i in range(20)]
    quarters = drawn.quantile(torch.tensor([0.25, 0.5, 0.75]))
    inside = [bool((row[:3] <= quarters + 0.01).all() and (row[1:] >= quarters - 0.01).all()) for row in few]
    assert all(inside) and not torch.equal(few[0], few[1])


def test_pictures_of_the_same_caption_share_it() -> None:
    ids = torch.tensor([[1, 2], [1, 3], [1, 2]])
    assert torch.allclose(vision.same_caption(ids), torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of six small pictures, with steps of four."""
    rng = np.random.default_rng(1)
    shutil.copy(WEIGHTS / "text.safetensors", tmp_path)
    for prefix in ("", "couple-"):
        np.save(tmp_path / f"{prefix}latents-{COUNT}.npy", rng.normal(size=(COUNT, 8, 16, 16)).astype(np.float16))
        np.save(tmp_path / f"{prefix}pictures-{COUNT}.npy", rng.integers(0, 255, (COUNT, 64, 64, 3), dtype=np.uint8))
        words = json.dumps(["a fish in snow", "a cat"] * (COUNT // 2))
        (tmp_path / f"{prefix}captions-{COUNT}.json").write_text(words)
    monkeypatch.setattr(mmdit, "COUPLES_COUNT", COUNT)
    for stage in (mmdit, vision):
        monkeypatch.setattr(stage, "BATCH", 4)
    return tmp_path


@pytest.mark.parametrize("stage", [mmdit, vision])
def test_a_resumed_run_is_the_straight_one(stage: Any, cache: Path) -> None:
    straight = stage.train(cache, COUNT, STAGE).state_dict()
    (cache / f"{stage.__name__.rpartition('.')[2]}.pt").unlink()
    half = stage.train(cache, COUNT, replace(STAGE, minutes=0)).state_dict()
    resumed = stage.train(cache, COUNT, STAGE).state_dict()
    assert any(not torch.equal(half[key], value) for key, value in straight.items())
    assert all(torch.equal(resumed[key], value) for key, value in straight.items())
