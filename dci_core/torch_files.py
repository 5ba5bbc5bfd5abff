"""Files of torch.save, for the program alone: tensors are taken out of them, and no code in them ever runs."""

from __future__ import annotations

from pathlib import Path

import torch

from .errors import PackError

SAFE_SINCE = (2, 6)  # CVE-2025-32434: before, weights-only loading could be made to run code


def load_weights_only(path: Path, expected: str, error: type[PackError], do: str = "download it again") -> object:
    """What the file holds, where that is plain containers of tensors and numbers; raises `error` for anything else."""
    version = torch.__version__.split("+")[0]
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_SINCE:
        raise error(
            f'"{path.name}" is a file of torch.save, and torch is {version}',
            f"torch {'.'.join(map(str, SAFE_SINCE))} or newer was expected, which never runs what they hold",
            "update torch, or convert the file to safetensors on another machine",
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as cause:
        raise error(
            f'"{path.name}" could not be read ({cause.strerror or cause})', expected, "check the path"
        ) from cause
    except Exception as cause:  # what a damaged or hostile file makes a reader raise is of any kind
        raise error(f'"{path.name}" holds more than tensors, or is damaged', expected, do) from cause
