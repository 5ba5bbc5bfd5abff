"""Keeps pytest away from the pack's own `__init__.py`, which only the host can import.

The checkout is at once a ComfyUI pack and the folder that pytest starts from, so pytest takes it for a Python package
and would import it. Hooks of a conftest below the root are not asked about the root, hence a plugin of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class RootIsAFolder:
    """Collects the root as a plain folder."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path.resolve() == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsAFolder(), "root-is-a-folder")
