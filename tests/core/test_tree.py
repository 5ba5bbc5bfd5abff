"""The shape of the tree: who may import whom, how long a file may be, what pytest must not touch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 350
HOST_MODULES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "nodes", "server")
LAYERS = ("dci_core", "nodes/host", "nodes", "")  # imports point to the left only
ROOMS = (  # of dci_core: a room or a file imports only what stands before it
    *(
        "errors",
        "version",
        "devices",
        "indices",
        "fingerprint",
        "files",
        "names",
        "torch_files",
        "intervals",
        "pretrained",
    ),
    *("noise", "attention", "families", "model", "text", "concept", "dci", "pictures", "ico", "dynaip", "flux", "tiny"),
    *("score", "studies", "program", "__main__"),
)
MOST_WEIGHTS = 34 * 1024**2  # bytes that the published archive spends on the small worlds
ARCHIVE = (  # all that it holds: files at the root, and folders whose files may go in
    *("CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "pyproject.toml"),
    *("docs/demo.jpg", "docs/dynaip.jpg", "docs/evidence/many/frontier.png"),
)
FOLDERS = {
    "dci_core": (".py", ".typed", ".md", ".json", ".txt", ".safetensors"),
    "nodes": (".py",),
    "js": (".js", ".md"),
    "workflows": (".json", ".jpg"),
    "locales": (".json",),
}

RUFF = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251"]
IMPORT_ALL = """
import importlib, pkgutil, sys
import dci_core
for module in pkgutil.walk_packages(dci_core.__path__, "dci_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def sources(*folders: str) -> list[Path]:
    """Python files of the folders, or of the whole pack and its tests."""
    below = [path for folder in folders or ("dci_core", "nodes", "tests") for path in (ROOT / folder).rglob("*.py")]
    return below if folders else [ROOT / "__init__.py", *below]


def layer(path: Path) -> int:
    """Place in LAYERS of a file or folder in the tree."""
    place = path.relative_to(ROOT).as_posix()
    return next(rank for rank, folder in enumerate(LAYERS) if not folder or f"{place}/".startswith(f"{folder}/"))


def relative_targets(path: Path) -> Iterator[Path]:
    """What the relative imports of a file point at."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from [base] if node.module else [base / alias.name for alias in node.names]


def lint(code: str, as_file: str) -> str:
    """What ruff's import boundary says about code that stood in as_file."""
    command = [*RUFF, "--stdin-filename", as_file, "-"]
    return subprocess.run(command, input=code, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_importing_the_core_imports_no_host(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(HOST_MODULES) & set(done.stdout.split())


@pytest.mark.parametrize("module", HOST_MODULES)
def test_the_linter_stops_a_host_import_in_the_core(module: str) -> None:
    assert "TID251" in lint(f"import {module}\n", "dci_core/dci/run.py")
    assert "TID251" in lint(f"def late():\n    from {module} import thing\n", "dci_core/tiny/model.py")


def test_the_linter_stops_the_host_in_a_thin_node_but_not_the_node_api() -> None:
    assert "TID251" in lint("import comfy.samplers\n", "nodes/sample_nodes.py")
    assert "TID251" in lint("import folder_paths\n", "nodes/sample_nodes.py")
    assert "TID251" not in lint("from comfy_api.latest import io\n", "nodes/sample_nodes.py")


def test_the_linter_lets_the_host_side_import_the_host() -> None:
    assert "TID251" not in lint("import comfy.samplers\nimport folder_paths\n", "nodes/host/sample.py")


def test_the_linter_stops_absolute_imports_of_the_core_in_the_pack() -> None:
    assert "TID251" in lint("from dci_core.attention.layers import LayerId\n", "dci_core/dci/run.py")
    assert "TID251" in lint("from dci_core.attention.layers import LayerId\n", "nodes/sample_nodes.py")
    assert "TID251" not in lint("from ..attention.layers import LayerId\n", "dci_core/dci/run.py")


def test_relative_imports_never_point_back() -> None:
    files = [ROOT / "__init__.py", *sources("dci_core", "nodes")]
    back = [(path.name, str(to)) for path in files for to in relative_targets(path) if layer(to) > layer(path)]
    assert back == []


def room_of(path: Path) -> str:
    """The room of dci_core, or the file at its door, that a path lies in."""
    return path.relative_to(ROOT / "dci_core").parts[0].removesuffix(".py")


def test_rooms_of_the_core_import_only_those_before_them() -> None:
    files = [path for path in sources("dci_core") if path.name != "__init__.py" or path.parent.name != "dci_core"]
    assert {room_of(path) for path in files} == set(ROOMS)
    wrong = [
        (str(path.relative_to(ROOT)), room_of(to))
        for path in files
        for to in relative_targets(path)
        if to != ROOT / "dci_core" and ROOMS.index(room_of(to)) > ROOMS.index(room_of(path))
    ]
    assert wrong == []


def top_names(path: Path) -> set[str]:
    """What a file defines or imports at its top level, also inside `if` and `try`."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if hasattr(node, "col_offset")]
    names = {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.col_offset == 0}
    names |= {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_what_the_checks_inside_a_host_take_from_one_another_is_there() -> None:
    inside = {path.stem: path for path in sources("tests/host/inside")}
    taken = [
        (path.name, node.module, alias.name)
        for path in inside.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in inside
        for alias in node.names
    ]
    assert taken
    assert [one for one in taken if one[2] not in top_names(inside[one[1]])] == []


def published() -> list[str]:
    """Files of the repository that `.comfyignore` lets into the archive."""

    def listed(*more: str) -> set[str]:
        command = ["git", "ls-files", "-z", *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return set(done.stdout.split("\0")) - {""}

    return sorted(listed() - listed("-c", "-i", "--exclude-from=.comfyignore"))


def test_the_published_archive_holds_what_a_user_needs_and_nothing_else() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the archive's content is told by git, and this is no checkout")
    files = published()
    stray = [
        name
        for name in files
        if name not in ARCHIVE and Path(name).suffix not in FOLDERS.get(name.partition("/")[0], ())
    ]
    assert stray == [] and set(ARCHIVE) <= set(files)
    assert {name.partition("/")[0] for name in files if "/" in name} == {"docs", *FOLDERS}
    assert not [name for name in files if "test" in Path(name).parts or "__pycache__" in name or "/." in name]
    assert sum((ROOT / name).stat().st_size for name in files if name.endswith(".safetensors")) < MOST_WEIGHTS


def test_the_archives_readme_shows_its_pictures() -> None:
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown and set(shown) <= set(ARCHIVE)


def test_every_file_is_short_enough_to_know() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {path.name: n for path, n in lengths.items() if n > MOST_LINES} == {}
    assert lengths[ROOT / "__init__.py"] < 20


def test_pytest_takes_no_folder_for_a_package(request: pytest.FixtureRequest) -> None:
    chain = request.node.listchain()
    assert ROOT in [node.path for node in chain]
    assert not any(isinstance(node, pytest.Package) for node in chain)


def test_the_root_is_not_on_the_import_path() -> None:
    assert ROOT not in [Path(entry).resolve() for entry in sys.path]
