"""What the tests of the program share: a small world with random weights, pictures, a concept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from dci_core.program.main import main
from dci_core.tiny.flow.model import FlowModel
from dci_core.tiny.judge import Judge
from dci_core.tiny.model import WEIGHTS, TinyModel

from .program_calls import train_words


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights as the shipped one, U-Net, MM-DiT and judge random."""
    folder, model = tmp_path_factory.mktemp("weights"), TinyModel.random(3)
    for name in ("codec", "text"):
        shutil.copy(WEIGHTS / f"{name}.safetensors", folder)
    save_file(model.unet.state_dict(), folder / "unet.safetensors")
    save_file(FlowModel.random(3).mmdit.state_dict(), folder / "mmdit.safetensors")
    save_file(Judge().state_dict(), folder / "judge.safetensors")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three reference pictures of flat patches, as the tiny world has them."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for i in range(3):
        patches = rng.integers(0, 255, (4, 3, 3), dtype=np.uint8)
        Image.fromarray(patches.repeat(16, axis=0).repeat(16, axis=1)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def concept(weights: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A concept file of two steps."""
    path = tmp_path_factory.mktemp("concept") / "concept.safetensors"
    assert main(train_words(weights, images, path)) == 0
    return path


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one state for the whole process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
