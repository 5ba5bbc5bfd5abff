"""File names from words that people type: resolved first, checked inside their folder last, good on every system."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import NotSaved

SUFFIX = ".safetensors"
FORBIDDEN = '<>:"|?*'  # Windows allows none of these in a name
DEVICES = frozenset(
    [
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{port}{i}" for port in ("com", "lpt") for i in "0123456789\xb9\xb2\xb3"),
    ]
)  # names that Windows keeps for devices, with any ending
MAX_PART_BYTES = 200  # of 255 that file systems take: an ending, a counter and a little more must fit
MAX_PATH_CHARACTERS = 240  # of Windows' 260
DO = "choose a plain name, with sub-folders if you like, such as animals/rex"
NOT_IN_PROMPTS = re.compile(r"[^\w.\-/]+")  # ends an embedding's name, or means something else, inside a prompt


def path_for(name: str, folder: Path, suffix: str = SUFFIX) -> Path:
    """Where a file of that name is to stand in the folder; either slash begins a sub-folder. Raises NotSaved.

    Blanks around a part and dots behind it go away, as Windows takes them away; letters are composed (NFC).
    """
    plain = unicodedata.normalize("NFC", name).replace("\\", "/").strip()
    parts = [part.strip().rstrip(". ") if set(part) - set(". ") else part.strip() for part in plain.split("/")]
    parts[-1] = _without(parts[-1], suffix)
    for part in parts:
        if complaint := trouble_with(part):
            raise NotSaved(
                f'the file name is "{name}", in which {complaint}', "a name that every system takes is expected", DO
            )
    path = folder.joinpath(*parts[:-1], parts[-1] + suffix)
    return check_inside(path, folder, name)


def check_inside(path: Path, folder: Path, name: str) -> Path:
    """The path, where it lies in the folder once all is resolved; raises NotSaved. Links in it are the user's own."""
    root, target = os.path.abspath(folder), os.path.abspath(path)
    if os.path.commonpath((root, target)) != root or target == root:
        raise NotSaved(f'the file name "{name}" leads out of its folder', "a name inside it is expected", DO)
    if len(os.path.relpath(target, root)) > MAX_PATH_CHARACTERS:
        raise NotSaved(
            f'the file name "{name[:40]}..." has {len(name)} characters',
            f"at most {MAX_PATH_CHARACTERS} are expected",
            DO,
        )
    return Path(target)


def trouble_with(part: str) -> str | None:
    """What a part of a name has that some system does not take, or None."""
    if not part:
        return "a part is empty"
    if part in (".", "..") or not set(part) - set(". "):
        return f'"{part}" is no name'
    bad = sorted({c for c in part if c in FORBIDDEN or unicodedata.category(c) in ("Cc", "Cs")})
    if bad:
        return f"{', '.join(map(repr, bad))} cannot stand in file names on Windows"
    if part.split(".")[0].strip().lower() in DEVICES:
        return f'"{part}" is a device on Windows'
    if len(part.encode(errors="surrogatepass")) > MAX_PART_BYTES:
        return f"a part is longer than {MAX_PART_BYTES} bytes"
    return None


def as_part(words: str) -> str:
    """A part of a name made from any words, for files that are named by the pack: what cannot stand there becomes _."""
    plain = unicodedata.normalize("NFC", words)
    kept = "".join("_" if c in FORBIDDEN + "/\\" or unicodedata.category(c) in ("Cc", "Cs") else c for c in plain)
    kept = kept.strip(". ").encode()[: MAX_PART_BYTES // 4].decode(errors="ignore") or "_"
    return f"_{kept}" if kept.split(".")[0].strip().lower() in DEVICES else kept


def for_prompts(name: str) -> str:
    """The name as it can stand behind `embedding:` in a prompt: blanks, brackets, commas and their like become _."""
    parts = [NOT_IN_PROMPTS.sub("_", part.strip()).strip(".") or "_" for part in name.replace("\\", "/").split("/")]
    return "/".join(parts)


def free_paths(paths: Sequence[Path], may_replace: Callable[[Path], bool]) -> list[Path]:
    """The paths, or all with the same number behind their names: the first for which each is free or may be replaced.

    rex.safetensors, rex_00002_.safetensors, ...: counted up as the host counts its own files.
    """
    for count in range(1, 100_000):
        tried = [path if count == 1 else path.with_name(f"{path.stem}_{count:05}_{path.suffix}") for path in paths]
        if all(not os.path.lexists(path) or may_replace(path) for path in tried):
            return tried
    raise NotSaved(f'99999 files are named like "{paths[0].name}"', "a free name is expected", "choose another name")


def _without(part: str, suffix: str) -> str:
    return part[: -len(suffix)].rstrip(". ") if part.lower().endswith(suffix) else part
