"""What the registry, a packaging check or an old console could stumble over: metadata, risky calls, letters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dci_core.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
READ_BY_PYTHON = (".py", ".toml", ".md", ".txt")
REGISTRY_RULES = "S102,S307,E702"  # of `comfy node validate`, which only warns: exec, eval, two statements a line
OLDEST_CONSOLE = "cp1252"  # of Windows in Western languages


def sources() -> list[Path]:
    """What a packaging check, or an editor that knows no UTF-8, may open."""
    folders = [path for name in ("dci_core", "nodes") for path in (ROOT / name).rglob("*")]
    roots = [ROOT / name for name in ("__init__.py", "pyproject.toml", "README.md", "CHANGELOG.md")]
    return [path for path in (*roots, *folders) if path.suffix in READ_BY_PYTHON and "__pycache__" not in path.parts]


def test_sources_read_the_same_in_the_oldest_encoding_of_windows() -> None:
    assert len(sources()) > 200
    strange = {}
    for path in sources():
        data = path.read_bytes()
        if data.decode("utf-8") != data.decode(OLDEST_CONSOLE, errors="replace"):
            strange[path.relative_to(ROOT).as_posix()] = sorted({c for c in data.decode("utf-8") if ord(c) > 127})
    assert strange == {}


def test_the_registrys_own_rules_find_nothing() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--isolated", "--select", REGISTRY_RULES]
    done = subprocess.run([*command, "__init__.py", "dci_core", "nodes"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    probe = [*command, "--stdin-filename", "dci_core/probe.py", "-"]
    assert subprocess.run(probe, input="exec('1')\n", cwd=ROOT, capture_output=True, text=True).returncode == 1


def test_the_registry_is_told_all_that_it_asks_for() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = about["project"], about["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,98}", project["name"]) and not project["name"].startswith("comfyui")
    assert project["description"] and project["license"] and project["urls"]["Repository"].startswith("https://")
    assert project["version"] == VERSION and re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"].startswith(">=")
    for name in ("Icon", "Banner"):
        picture = ROOT / "docs" / comfy[name].rpartition("/")[2]
        assert comfy[name].startswith("https://") and picture.is_file()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["concepts", "."], ["concepts", "?:", "--json"]])
def test_the_program_speaks_on_a_console_that_knows_no_unicode(words: list[str], tmp_path: Path) -> None:
    there = {**os.environ, "PYTHONIOENCODING": OLDEST_CONSOLE, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "dci_core", *words]
    done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, check=False, timeout=120)
    text = (done.stdout + done.stderr).decode(OLDEST_CONSOLE)
    assert done.returncode in (0, 2) and "Traceback" not in text, text
    assert text.strip()
