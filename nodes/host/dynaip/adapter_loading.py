"""From an adapter's name to one that the host can move."""

from __future__ import annotations

from ....dci_core.dynaip import adapter_file
from .adapter_files import adapter_path
from .adapters import HostAdapter


def load_adapter(name: str) -> HostAdapter:
    """The adapter of that name, frozen; raises BadAdapter."""
    return HostAdapter(name, adapter_file.load_adapter(adapter_path(name)))
