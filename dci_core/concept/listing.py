"""What a person chooses a concept file by, read from the header alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..errors import PackError
from ..files import read_header
from ..names import SUFFIX
from .cover import THUMBNAIL, picture_in, read_cover

MOST_PICTURE = 4 << 20  # bytes of a picture beside a file
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
Seen = tuple[int, int]
CACHE: dict[Path, tuple[Seen, dict[str, str]]] = {}


def list_concepts(names: Iterable[str], find: Callable[[str], Path]) -> list[dict[str, Any]]:
    """Facts of every concept file among these names, the newest first; a file that is none of ours is left out.

    find  the path of a name; raises PackError for one that is not there
    """
    found = []
    for name in names:
        try:
            facts = facts_of(find(name))
        except PackError:
            continue
        if facts is not None:
            found.append({"name": name, **facts})
    return sorted(found, key=lambda concept: -concept["time"])


def names_in(folder: Path) -> list[str]:
    """Every safetensors file of a folder and those below it, by its path from there; raises OSError."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob(f"*{SUFFIX}")) if path.is_file()]


def facts_of(path: Path) -> dict[str, Any] | None:
    """Trigger, noun, family, steps, rank, loss, date, bytes, time, whether it has a picture; None: a foreign file."""
    try:
        stat = path.stat()
        metadata = header_of(path)
        about = json.loads(metadata["about"])
        loss = about.get("loss") or {}
        return {
            "trigger": str(about["trigger"]),
            "noun": str(about["noun"]),
            "family": str(about["family"]),
            "steps": int(loss.get("steps", 0)),
            "rank": about.get("rank"),
            "loss": loss.get("mean_of_last"),
            "date": read_cover(metadata).date,
            "bytes": stat.st_size,
            "time": stat.st_mtime,
            "picture": picture_in(metadata.get(THUMBNAIL, "")) is not None or beside(path) is not None,
        }
    except (PackError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def header_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, read once for each change of it; raises OSError, BadConcept."""
    stat = path.stat()
    seen = (stat.st_mtime_ns, stat.st_size)
    if path not in CACHE or CACHE[path][0] != seen:
        CACHE[path] = (seen, read_header(path)["__metadata__"])
    return CACHE[path][1]


def picture_of(path: Path) -> tuple[str, bytes] | None:
    """(media type, bytes) of a concept's picture: of its metadata, else of a picture beside it."""
    try:
        held = picture_in(header_of(path).get(THUMBNAIL, ""))
        other = beside(path) if held is None else None
        return (PICTURES[other.suffix.lower()], other.read_bytes()) if other else held
    except (PackError, OSError):
        return None


def beside(path: Path) -> Path | None:
    """A picture of the concept's name in the same folder, as `x.png` or `x.preview.png`."""
    for suffix in PICTURES:
        for other in (path.with_suffix(suffix), path.with_suffix(f".preview{suffix}")):
            if other.is_file() and other.stat().st_size <= MOST_PICTURE:
                return other
    return None
