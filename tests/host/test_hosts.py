"""Every check of `inside/`, in every host, each module in its own process; skipped, with the reason, without a host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hosts import PROCESSES, Host, checks_in, find_hosts, modules

sys.path.pop(0)

CASES = [
    pytest.param(
        host, module, name, id=f"{host.name}-{module.removeprefix('check_')}-{name}", marks=[pytest.mark.slow] * is_slow
    )
    for host in find_hosts()
    for module in modules()
    for name, is_slow in checks_in(module)
]


Outcomes = dict[str, str | None]  # check -> None, or what went wrong


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest) -> Iterator[dict[tuple[Host, str], Future[Outcomes]]]:
    """The chosen checks of each host and module, some processes at a time, in the order of the tests."""
    wanted: dict[tuple[Host, str], list[str]] = {}
    for item in request.session.items:
        if not isinstance(item, pytest.Function) or item.originalname != test_inside.__name__:
            continue
        host, module, name = (item.callspec.params[key] for key in ("host", "module", "name"))
        if not host.absence():
            wanted.setdefault((host, module), []).append(name)
    with ThreadPoolExecutor(PROCESSES) as pool:
        yield {key: pool.submit(key[0].outcomes, key[1], names) for key, names in wanted.items()}
        pool.shutdown(wait=False, cancel_futures=True)


@pytest.mark.host
@pytest.mark.parametrize(("host", "module", "name"), CASES)
def test_inside(host: Host, module: str, name: str, running: dict[tuple[Host, str], Future[Outcomes]]) -> None:
    if reason := host.absence():
        pytest.skip(reason)
    trouble = running[host, module].result()[name]
    if trouble and trouble.startswith("ABSENT "):
        pytest.skip(trouble.removeprefix("ABSENT "))
    assert trouble is None, trouble
