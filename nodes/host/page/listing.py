"""What lies in models/ico_concepts, read from the files' headers alone."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from ....dci_core.files import HEADER_LENGTH_BYTES
from .. import folders

MOST_HEADER = 8 << 20  # bytes: a thumbnail within it, nothing larger
MOST_PICTURE = 4 << 20
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
THUMBNAIL = "modelspec.thumbnail"
Seen = tuple[int, int]
CACHE: dict[Path, tuple[Seen, dict[str, str]]] = {}


def concepts() -> list[dict[str, Any]]:
    """Every concept file with what a person chooses by; a file that is none of ours is left out."""
    found = []
    for name in folders.concept_names():
        path = folders.concept_path(name)
        facts = facts_of(path)
        if facts is not None:
            found.append({"name": name, **facts})
    return sorted(found, key=lambda concept: -concept["time"])


def facts_of(path: Path) -> dict[str, Any] | None:
    """Trigger, noun, family, steps, rank, loss, bytes, time and whether there is a picture; None for a foreign file."""
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
            "bytes": stat.st_size,
            "time": stat.st_mtime,
            "picture": THUMBNAIL in metadata or beside(path) is not None,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def header_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; raises OSError, ValueError, KeyError."""
    stat = path.stat()
    seen = (stat.st_mtime_ns, stat.st_size)
    if path in CACHE and CACHE[path][0] == seen:
        return CACHE[path][1]
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        if not 2 <= length <= min(MOST_HEADER, stat.st_size):
            raise ValueError("header")
        metadata = json.loads(file.read(length))["__metadata__"]
    CACHE[path] = (seen, metadata)
    return metadata


def picture_of(path: Path) -> tuple[str, bytes] | None:
    """(media type, bytes) of a concept's picture: of its metadata, else of a picture beside it."""
    try:
        held = header_of(path).get(THUMBNAIL, "")
        if held.startswith("data:image/") and ";base64," in held:
            kind, _, data = held.removeprefix("data:").partition(";base64,")
            return (kind, base64.b64decode(data, validate=True)) if kind in PICTURES.values() else None
        other = beside(path)
        return (PICTURES[other.suffix.lower()], other.read_bytes()) if other else None
    except (OSError, ValueError, KeyError, AttributeError, binascii.Error):
        return None


def beside(path: Path) -> Path | None:
    """A picture of the concept's name in the same folder, as `x.png` or `x.preview.png`."""
    for suffix in PICTURES:
        for other in (path.with_suffix(suffix), path.with_suffix(f".preview{suffix}")):
            if other.is_file() and other.stat().st_size <= MOST_PICTURE:
                return other
    return None
