"""Folders of pictures below the host's input folder, as its own dataset nodes look for them."""

from __future__ import annotations

import os
from pathlib import Path

from ...dci_core.errors import BadPicture
from ...dci_core.fingerprint import short_hash
from ...dci_core.pictures.reference import readable_suffixes
from .folders import is_escape

MOST_LISTED = 500  # folders; whoever has more types nothing here, but links one


def folder_names() -> list[str]:
    """Folders below the host's input folder, at any depth, that hold a picture."""
    root, endings, found = input_folder(), readable_suffixes(), []
    seen: set[str] = set()  # a link may lead back to a folder above it
    for place, folders, files in os.walk(root, followlinks=True):
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if place != str(root) and any(Path(name).suffix.lower() in endings for name in files):
            found.append(Path(place).relative_to(root).as_posix())
        if len(found) >= MOST_LISTED:
            break
    return sorted(found)


def folder_path(name: str) -> Path:
    """The folder of that name below the input folder; raises BadPicture."""
    path = input_folder() / name
    if is_escape(name) or not path.is_dir():
        known = folder_names()
        raise BadPicture(
            f'there is no folder "{name}" in ComfyUI\'s input folder',
            f"one of {', '.join(known[:8])} is expected"
            if known
            else "a folder with 4 to 20 pictures is expected there",
            "make it, put the pictures into it, press R on the page and choose it",
        )
    return path


def stamp(name: str) -> str:
    """Changes when a file in the folder does; empty when it is missing."""
    try:
        files = sorted((path.name, path.stat()) for path in folder_path(name).iterdir() if path.is_file())
    except (BadPicture, OSError):
        return ""
    return short_hash([repr([(file, stat.st_size, stat.st_mtime_ns) for file, stat in files]).encode()])


def input_folder() -> Path:
    """Where the host's own nodes look for pictures."""
    import folder_paths

    return Path(folder_paths.get_input_directory())
