"""Pictures as files, whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ..files import write_bytes


def save_image(image: Image.Image, path: Path) -> None:
    """The picture stands at path, whole or not at all; the suffix says how it is packed. Raises NotSaved."""
    packed = io.BytesIO()
    image.save(packed, {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG"))
    write_bytes(path, packed.getvalue())
