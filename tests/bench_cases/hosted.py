"""Cases that run in ComfyUI's own Python, where there is a ComfyUI."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .measure import Bench, Figure, Unmeasured, half_quartiles

HERE = Path(__file__).resolve().parent
LORA_BYTES = 19 * 2**30  # the host's own training of this shape was seen to take 17.4 GiB
MINUTES = 20


@cache
def host() -> Any:
    """The first ComfyUI that can be used; raises Unmeasured."""
    spec = importlib.util.spec_from_file_location("hosts", HERE.parent / "host" / "hosts.py")
    assert spec is not None and spec.loader is not None
    hosts = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["hosts"] = hosts
    spec.loader.exec_module(hosts)
    reasons = [(found, found.absence()) for found in hosts.find_hosts()]
    usable = [found for found, reason in reasons if reason is None]
    if not usable:
        raise Unmeasured("; ".join(reason for _, reason in reasons if reason))
    return usable[0]


def inside(action: str, seconds: float) -> dict[str, Any]:
    """What `inside.py` printed; raises Unmeasured with the process's last words."""
    chosen = host()
    command = [str(chosen.python), str(HERE / "inside.py"), str(chosen.folder), str(HERE.parents[1]), action]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        [*command, str(seconds)], cwd=chosen.folder, env=clean, capture_output=True, text=True, check=False,
        timeout=60 * MINUTES,
    )  # fmt: skip
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise Unmeasured(f"{chosen.name} ended with {done.returncode}: {' '.join(last)}")
    return json.loads(lines[-1])


def figures_of(action: str) -> Callable[[Bench], list[Figure]]:
    """A case whose figures are made inside the host."""

    def measured(bench: Bench) -> list[Figure]:
        if bench.device.type != "cpu":
            raise Unmeasured("the host is only measured on a CPU")
        return [Figure(**figure) for figure in inside(action, bench.seconds)["found"]]

    return measured


def free_bytes() -> int:
    """Memory that a new process could use."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def train_vs_host_lora(bench: Bench) -> list[Figure]:
    """Our training step against the host's own LoRA training node: ours, the host's, ours, each in a process."""
    if bench.device.type != "cpu":
        raise Unmeasured("the host is only measured on a CPU")
    host()
    if not Path("/proc/meminfo").is_file() or free_bytes() < LORA_BYTES:
        raise Unmeasured(f"the host's training takes 17.4 GiB; less than {LORA_BYTES / 2**30:.0f} GiB are free")
    runs = [inside(action, bench.seconds) for action in ("ours", "lora", "ours")]
    mine = [seconds for run in (runs[0], runs[2]) for seconds in run["found"][1:]]
    theirs = runs[1]["found"][1:]
    base = statistics.median(theirs)
    spread = half_quartiles([seconds / base for seconds in mine])
    what = f"SD 1.5's shape, 256 px, batch 2, fp32, no prior: a step against the host's ({base:.1f} s)"
    peaks = max(runs[0]["peak"], runs[2]["peak"]), runs[1]["peak"]
    memory = f"peak memory of the same: {peaks[0] / 2**30:.1f} GiB against {peaks[1] / 2**30:.1f} GiB"
    median = statistics.median(mine)
    return [
        Figure("train_vs_host_lora", median / base, median, spread, "cpu", "float32", what, 1 / 3),
        Figure("train_vs_host_lora_memory", peaks[0] / peaks[1], None, 0.0, "cpu", "float32", memory, 0.7),
    ]
