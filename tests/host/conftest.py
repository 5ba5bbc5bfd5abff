"""One server for each host and front end, and one browser, for all tests of the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dci_core.concept.file import save_concept
from dci_core.concept.learned import Concept

sys.path.insert(0, str(Path(__file__).parent))
from browser import Page, absence, browsing
from pages import Site, name_of, shown_by
from serving import serving

sys.path.pop(0)


@pytest.fixture(scope="session", params=shown_by(), ids=name_of)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    host, front_end = request.param
    if reason := absence() or host.absence():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("served")
    tokens = {"clip_l": torch.zeros(1, 128)}
    (base / "models" / "ico_concepts").mkdir(parents=True)
    save_concept(Concept("tiny", "zorp", "fish", tokens, {}), base / "models" / "ico_concepts" / "zorp.safetensors")
    with browsing(tmp_path_factory.mktemp("browser")) as browser, serving(host, base, front_end) as server:
        yield Site(server, browser)


@pytest.fixture(params=[False, True], ids=["classic", "nodes2"])
def page(request: pytest.FixtureRequest, site: Site) -> Page:
    """One page for each renderer of each host."""
    return site.drawn_by(request.param)
