"""Where files go, found out before any work begins."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

from PIL import Image

from ..errors import NotSaved
from ..files import write_bytes

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def check_out(path: Path, suffixes: tuple[str, ...] = ()) -> Path:
    """The path, its folder made and found to take files; raises NotSaved."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise NotSaved(
            f'the output is "{path.name}"', f"a name ending in {' or '.join(suffixes)} was expected", "rename it"
        )
    if path.is_dir():
        raise NotSaved(f'the output "{path.name}" is a folder', "the name of a file was expected", "add a file name")
    check_folder(path.parent)
    return path


def check_folder(folder: Path) -> Path:
    """The folder, made where it was missing, and found to take files; raises NotSaved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, spare = tempfile.mkstemp(dir=folder, prefix=".try.", suffix=".part")
        os.close(handle)
        os.unlink(spare)
    except OSError as error:
        raise NotSaved(
            f'the output folder "{folder.name}" takes no files ({error.strerror or error})',
            "a folder that can be written was expected",
            "choose another folder",
        ) from error
    return folder


def save_image(image: Image.Image, path: Path) -> None:
    """The picture stands at path, whole or not at all; the suffix says how it is packed. Raises NotSaved."""
    packed = io.BytesIO()
    image.save(packed, {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG"))
    write_bytes(path, packed.getvalue())
