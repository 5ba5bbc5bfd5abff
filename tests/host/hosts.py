"""Finds the ComfyUI hosts that the host tests run against, and runs checks inside each with its own Python.

COMFYUI_PATH    folders of ComfyUI, separated as in PATH; else ~/comfy/ComfyUI
COMFYUI_PYTHON  the Python of each, in the same order; an empty entry means .venv inside the folder, else this Python
COMFYUI_FRONT_END  other front ends, tried on the first host: folders `static` of the package comfyui-frontend-package
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).parent / "inside"
DEFAULT = Path.home() / "comfy" / "ComfyUI"
NEEDED = (
    *("torch", "torchvision", "torchaudio", "einops", "transformers", "safetensors"),
    *("aiohttp", "yaml", "PIL", "scipy", "psutil", "av", "requests"),
)
SECONDS = 2400
PROCESSES = min(4, os.cpu_count() or 1)  # at the same time


@dataclass(frozen=True)
class Host:
    """One ComfyUI folder and the Python that runs it."""

    folder: Path
    python: Path

    @property
    def name(self) -> str:
        """`ComfyUI-0.3.64`: the folder's version as it states it."""
        version = self.folder / "comfyui_version.py"
        text = version.read_text(encoding="utf-8") if version.is_file() else ""
        return text.rpartition("=")[2].strip().strip('"') or self.folder.name

    @cache  # noqa: B019  # a handful of hosts live as long as the run
    def absence(self) -> str | None:
        """Why this host cannot be used, or None."""
        if not (self.folder / "main.py").is_file():
            return f"no ComfyUI at {self.folder}; name one in COMFYUI_PATH"
        look = f"from importlib.util import find_spec as f; print(*(n for n in {NEEDED} if f(n) is None))"
        done = subprocess.run([str(self.python), "-c", look], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{self.python} does not run: {(done.stderr.strip().splitlines() or [''])[-1]}"
        return f"{self.python} has no {done.stdout.strip()}" if done.stdout.strip() else None

    def outcomes(self, module: str, names: Sequence[str]) -> dict[str, str | None]:
        """Runs checks of one module in one process of this host: check -> None, or what went wrong."""
        wanted = [f"{module}:{name}" for name in names]
        command = [str(self.python), str(INSIDE / "run.py"), str(self.folder), str(ROOT), *wanted]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
        clean.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // PROCESSES)))
        done = subprocess.run(
            command, cwd=self.folder, env=clean, capture_output=True, text=True, check=False, timeout=SECONDS
        )
        lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        results = dict(json.loads(line) for line in lines)
        missing = f"the host's process ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        return {name: results.get(f"{module}:{name}", missing) for name in names}


def find_hosts() -> list[Host]:
    """The hosts named by the environment, or the default place."""
    folders = [Path(part).expanduser() for part in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if part]
    pythons = os.environ.get("COMFYUI_PYTHON", "").split(os.pathsep)
    folders = folders or [DEFAULT]
    pythons += [""] * (len(folders) - len(pythons))
    return [Host(folder, host_python(folder, given)) for folder, given in zip(folders, pythons, strict=False)]


def find_front_ends() -> list[Path]:
    """Front ends that the environment names besides the hosts' own."""
    return [Path(part).expanduser() for part in os.environ.get("COMFYUI_FRONT_END", "").split(os.pathsep) if part]


def host_python(folder: Path, given: str) -> Path:
    """The Python that runs the host in this folder."""
    own = [folder / ".venv" / "bin" / "python", folder / ".venv" / "Scripts" / "python.exe"]
    choices = [Path(given).expanduser()] if given else [path for path in own if path.exists()]
    return (choices or [Path(sys.executable)])[0]


def checks_in(module: str) -> list[tuple[str, bool]]:
    """(name, is slow) of every check in a file of `inside`."""
    tree = ast.parse((INSIDE / f"{module}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [(node.name, "slow" in [ast.unparse(mark) for mark in node.decorator_list]) for node in functions]


def modules() -> Sequence[str]:
    """Files of `inside` that hold checks."""
    return sorted(path.stem for path in INSIDE.glob("check_*.py"))
