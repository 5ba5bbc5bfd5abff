"""Where files go, found out before any work begins."""

from __future__ import annotations

from pathlib import Path

from ..errors import NotSaved
from ..files import check_takes_files

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def check_out(path: Path, suffixes: tuple[str, ...] = ()) -> Path:
    """The path, its folder made and found to take files; raises NotSaved."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise NotSaved(
            f'the output is "{path.name}"', f"a name ending in {' or '.join(suffixes)} was expected", "rename it"
        )
    if path.is_dir():
        raise NotSaved(
            f'the output "{path.absolute()}" is a folder', "the name of a file was expected", "add a file name"
        )
    check_folder(path.parent)
    return path


def check_folder(folder: Path) -> Path:
    """The folder, made where it was missing, and found to take files; raises NotSaved."""
    check_takes_files(folder)
    return folder
