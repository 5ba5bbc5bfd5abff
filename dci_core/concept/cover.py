"""What is seen of a concept before anybody draws with it: a picture, and the day it was made."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

THUMBNAIL, DATE = "modelspec.thumbnail", "modelspec.date"
MOST_BYTES = 512 << 10  # of a picture inside a file: hosts read headers of at most 1 MiB
KINDS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n", "image/webp": b"RIFF"}  # and how they begin


@dataclass(frozen=True)
class Cover:
    """A concept's picture and date; neither changes what it draws.

    picture  a whole JPEG, PNG or WebP file, or None
    date     when its training ended, as in 2026-11-28T12:30:00Z, or empty
    """

    picture: bytes | None = None
    date: str = ""

    def metadata(self) -> dict[str, str]:
        """The cover as strings of a file's metadata; a picture that is too large or of another kind stays out."""
        kind = None if self.picture is None else kind_of(self.picture)
        found = {DATE: self.date} if self.date else {}
        if kind is not None and self.picture is not None:
            found[THUMBNAIL] = f"data:{kind};base64,{base64.b64encode(self.picture).decode()}"
        return found


def made_now(picture: bytes | None = None) -> Cover:
    """A cover with the present time."""
    return Cover(picture, datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))


def read_cover(metadata: Mapping[str, str]) -> Cover:
    """The cover of a file's metadata; what is foreign, damaged or too large there is left out."""
    held = picture_in(metadata.get(THUMBNAIL, ""))
    date = metadata.get(DATE, "")
    try:
        datetime.fromisoformat(date.removesuffix("Z"))
    except ValueError:
        date = ""
    return Cover(None if held is None else held[1], date)


def picture_in(text: str) -> tuple[str, bytes] | None:
    """(media type, bytes) of a data URI, or None where it holds no picture of ours."""
    head, comma, data = text.partition(";base64,")
    if not comma or head.removeprefix("data:") not in KINDS or len(data) > MOST_BYTES * 4 // 3 + 4:
        return None
    try:
        picture = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return (head.removeprefix("data:"), picture) if kind_of(picture) == head.removeprefix("data:") else None


def kind_of(picture: bytes) -> str | None:
    """Media type of a picture that is small enough for a file's metadata, else None."""
    if len(picture) > MOST_BYTES:
        return None
    return next((kind for kind, start in KINDS.items() if picture.startswith(start)), None)
