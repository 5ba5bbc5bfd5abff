"""Where adapters lie on this machine: models/dynaip, wherever the user has put it."""

from __future__ import annotations

from pathlib import Path

from ....dci_core.errors import BadAdapter
from ....dci_core.tiny.model import WEIGHTS
from .. import folders
from ..folders import is_escape

FOLDER = "dynaip"
TINY = "tiny flow (comes with this pack)"
TINY_PATH = WEIGHTS / "adapter.safetensors"


def register() -> None:
    """Makes models/dynaip known to the host."""
    folders.register(FOLDER)


def adapter_names() -> list[str]:
    """Adapter files that the host can see, the tiny world's own last."""
    import folder_paths

    register()
    return [*folder_paths.get_filename_list(FOLDER), TINY]


def adapter_path(name: str) -> Path:
    """The file of that name; raises BadAdapter."""
    import folder_paths

    register()
    if name == TINY:
        return TINY_PATH
    found = None if is_escape(name) else folder_paths.get_full_path(FOLDER, name)
    if found is None:
        raise BadAdapter(
            f'there is no adapter "{name}"', f"a file in models/{FOLDER} is expected", "choose one from the list"
        )
    return Path(found)


def stamp(name: str) -> str:
    """Changes when the file does: path, size and time of last change; empty when it is missing."""
    return folders.stamp_of(adapter_path, name)
