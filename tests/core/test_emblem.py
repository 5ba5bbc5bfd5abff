"""Icon and banner are what their script draws, in the registry's shapes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"


def emblem() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("emblem", DOCS / "emblem.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_icon_is_what_the_script_draws() -> None:
    with Image.open(DOCS / "icon.png") as shipped:
        assert shipped.size == (400, 400)
        assert np.abs(np.asarray(shipped, int) - np.asarray(emblem().icon(), int)).max() <= 8  # PIL's versions differ


def test_the_banner_is_21_to_9_and_shows_the_same_mark() -> None:
    with Image.open(DOCS / "banner.png") as shipped:
        assert shipped.width * 9 == shipped.height * 21
        half = (0, 0, shipped.width * 2 // 5, shipped.height)  # the rest is written in a font of PIL's
        drawn = emblem().banner().crop(half)
        assert np.abs(np.asarray(shipped.crop(half), int) - np.asarray(drawn, int)).max() <= 8
