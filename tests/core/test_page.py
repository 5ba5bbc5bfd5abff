"""What the page's own code must know of the nodes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_socket_type_has_a_colour_of_its_own() -> None:
    types = re.findall(r'io\.Custom\("(\w+)"\)', (ROOT / "nodes" / "sockets.py").read_text(encoding="utf-8"))
    page = (ROOT / "js" / "ico_dci.js").read_text(encoding="utf-8")
    table = re.search(r"const SOCKETS = \{(.*?)\};", page, re.DOTALL)
    assert table is not None
    colours = dict(re.findall(r'(\w+): "(#[0-9a-f]{6})"', table.group(1)))
    assert types and set(colours) == set(types)
    assert len(set(colours.values())) == len(types)
