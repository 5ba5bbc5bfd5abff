"""Every check of `inside/`, in every host, each in its own Python. Skipped, with the reason, where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Host, checks_in, find_hosts, modules

sys.path.pop(0)

CASES = [
    pytest.param(
        host, module, name, id=f"{host.name}-{module.removeprefix('check_')}-{name}", marks=[pytest.mark.slow] * is_slow
    )
    for host in find_hosts()
    for module in modules()
    for name, is_slow in checks_in(module)
]


@pytest.mark.host
@pytest.mark.parametrize(("host", "module", "name"), CASES)
def test_inside(host: Host, module: str, name: str, request: pytest.FixtureRequest) -> None:
    if reason := host.absence():
        pytest.skip(reason)
    chosen = [item.callspec.params for item in request.session.items if getattr(item, "callspec", None)]
    names = [case["name"] for case in chosen if case.get("host") == host and case.get("module") == module]
    trouble = host.outcomes(module, tuple(names))[name]
    if trouble and trouble.startswith("ABSENT "):
        pytest.skip(trouble.removeprefix("ABSENT "))
    assert trouble is None, trouble
