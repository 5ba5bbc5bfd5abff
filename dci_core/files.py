"""Reading and writing of safetensors files: a write happens wholly or not at all, a bad file gets one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from .errors import BadConcept, NotSaved

HEADER_LENGTH_BYTES = 8  # safetensors: the header's length, little endian
KINDS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file stands at path, whole; a file that stood there survives any failure. Raises NotSaved."""
    plain = {name: x.detach().to("cpu").contiguous().clone() for name, x in tensors.items()}
    write_bytes(path, safetensors.torch.save(plain, dict(metadata)))


def write_bytes(path: Path, data: bytes) -> None:
    """The bytes stand at path after reaching the disk; an older file is replaced in one step. Raises NotSaved."""
    with replacing(path, len(data)) as spare:
        spare.write_bytes(data)


def stream_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """As `write_tensors`, for files of gigabytes: one tensor at a time is held in memory. Raises NotSaved."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # keeps every start aligned
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        x = tensors[name]
        start, end = end, end + x.numel() * x.element_size()
        header[name] = {"dtype": KINDS[x.dtype], "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % HEADER_LENGTH_BYTES)
    with replacing(path, end) as spare, open(spare, "wb") as file:
        file.write(len(text).to_bytes(HEADER_LENGTH_BYTES, "little") + text)
        for name in order:
            plain = tensors[name].detach().to("cpu").contiguous()
            file.write(plain.reshape(-1).view(torch.uint8).numpy().data)


@contextlib.contextmanager
def replacing(path: Path, num_bytes: int) -> Iterator[Path]:
    """A spare name beside path to write under; then it stands at path after reaching the disk, in one step.

    An older file survives any failure, and nothing is left under the spare name. Raises NotSaved.
    """
    spare = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield spare
        with open(spare, "r+b") as file:  # Windows syncs no handle that was opened for reading alone
            os.fsync(file.fileno())
        os.replace(spare, path)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NotSaved(
            f'"{path.name}" could not be written ({reason})',
            f"a folder that takes files with {num_bytes / 1e6:.1f} MB free was expected",
            "choose another folder or make room and save again",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            spare.unlink(missing_ok=True)


def read_tensors(path: Path, what: str = "concept file") -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; nothing in it is ever executed. Raises BadConcept."""
    expected = f"a {what} (safetensors) was expected"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadConcept(
            f'"{path.name}" could not be read ({error.strerror or error})', expected, "check the path"
        ) from error
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
        header = json.loads(data[HEADER_LENGTH_BYTES : HEADER_LENGTH_BYTES + length])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BadConcept(f'"{path.name}" {_diagnosis(data)}', expected, "save or download it again") from error
    return tensors, header.get("__metadata__", {})


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Nothing, or BadConcept when a number is NaN or infinite."""
    for key, x in tensors.items():
        if not torch.isfinite(x).all():
            raise BadConcept(
                f'"{name}" holds NaN or infinity in {key}', "finite numbers were expected", "train or download it again"
            )


def _diagnosis(data: bytes) -> str:
    if not data:
        return "is empty"
    if data.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "is a file of Python objects under another name, which could run code"
    return "is cut short, damaged or no safetensors file"
