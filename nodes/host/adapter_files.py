"""Where adapters lie on this machine: models/dynaip, wherever the user has put it."""

from __future__ import annotations

from pathlib import Path

from ...dci_core.errors import BadAdapter
from ...dci_core.tiny.model import WEIGHTS
from .folders import SUFFIX, is_escape

FOLDER = "dynaip"
TINY = "tiny flow (comes with this pack)"
TINY_PATH = WEIGHTS / "adapter.safetensors"
NONE = "none yet: put one into models/dynaip"


def register() -> None:
    """Makes models/dynaip known to the host, beside folders that the user has named for it; safe to repeat."""
    import folder_paths

    folder = str(Path(folder_paths.models_dir) / FOLDER)
    paths, suffixes = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    folder_paths.folder_names_and_paths[FOLDER] = (
        [*paths, *([] if folder in paths else [folder])],
        {*suffixes, SUFFIX},
    )


def adapter_names() -> list[str]:
    """Adapter files that the host can see, the tiny world's own last where it has one; never empty."""
    import folder_paths

    register()
    return [*folder_paths.get_filename_list(FOLDER), *([TINY] if TINY_PATH.is_file() else [])] or [NONE]


def adapter_path(name: str) -> Path:
    """The file of that name; raises BadAdapter."""
    import folder_paths

    register()
    if name == TINY and TINY_PATH.is_file():
        return TINY_PATH
    found = None if is_escape(name) else folder_paths.get_full_path(FOLDER, name)
    if found is None:
        raise BadAdapter(
            f'there is no adapter "{name}"', f"a file in models/{FOLDER} is expected", "choose one from the list"
        )
    return Path(found)


def stamp(name: str) -> str:
    """Changes when the file does: path, size and time of last change; empty when it is missing."""
    try:
        path = adapter_path(name)
        facts = path.stat()
    except (BadAdapter, OSError):
        return ""
    return f"{path}|{facts.st_size}|{facts.st_mtime_ns}"
