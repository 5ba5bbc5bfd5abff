"""From an adapter's name to one that the host can move."""

from __future__ import annotations

from pathlib import Path

from ...dci_core.errors import BadAdapter
from ...dci_core.image_prompt import adapter_file
from ...dci_core.tiny.model import WEIGHTS
from .adapter_files import TINY, adapter_path
from .adapters import HostAdapter

TINY_FILE = "adapter.safetensors"


def load_adapter(name: str) -> HostAdapter:
    """The adapter of that name, frozen; raises BadAdapter."""
    return HostAdapter(name, adapter_file.load_adapter(tiny_path() if name == TINY else adapter_path(name)))


def tiny_path(folder: Path = WEIGHTS) -> Path:
    """The tiny flow model's adapter; raises BadAdapter where it is missing."""
    path = folder / TINY_FILE
    if not path.is_file():
        raise BadAdapter(
            f'the tiny flow model\'s "{TINY_FILE}" cannot be read',
            "the weights that ship with this pack are expected",
            "install the pack again",
        )
    return path
