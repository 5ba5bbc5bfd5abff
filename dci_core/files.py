"""Reading and writing of files: a write happens wholly or not at all, a bad file gets one sentence."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from .errors import BadConcept, NotSaved

HEADER_LENGTH_BYTES = 8  # safetensors: the header's length, little endian
MAX_HEADER_BYTES = 32 << 20  # a header of a million losses and a picture is smaller
MAX_FILE_BYTES = 8 << 30  # a concept of SDXL at full rank has 1.4 GB
DTYPES = {  # in the order in which the format's own library writes them: the widest first, so that all are aligned
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.int16: "I16", torch.uint8: "U8", torch.int8: "I8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # what network folders say that cannot flush
PAUSES_S = (0.0, 0.1, 0.3, 1.0)  # Windows: a virus scanner holds a new file open for a moment
TRIAL_BYTES = 4096


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file stands at path, whole; a file that stood there survives any failure. Raises NotSaved.

    Tensors go out one after the other, so that no second copy of all of them is ever held in memory.
    """
    kinds = list(DTYPES)
    order = sorted(tensors, key=lambda name: (kinds.index(tensors[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name in order:
        x = tensors[name]
        end = at + x.numel() * x.element_size()
        header[name] = {"dtype": DTYPES[x.dtype], "shape": list(x.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_LENGTH_BYTES)
    with replacing(path, HEADER_LENGTH_BYTES + len(text) + at) as file:
        file.write(len(text).to_bytes(HEADER_LENGTH_BYTES, "little") + text)
        for name in order:
            file.write(raw_bytes(tensors[name]))


def raw_bytes(x: Tensor) -> bytes | memoryview:
    """A tensor's numbers as they lie in memory, row by row."""
    flat = x.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def write_bytes(path: Path, data: bytes) -> None:
    """The bytes stand at path after reaching the disk; an older file is replaced in one step. Raises NotSaved."""
    with replacing(path, len(data)) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `path` in one step when the block ends well. Raises NotSaved.

    size  bytes that will be written, for the message
    """
    spare = path.with_name(f"{_spare_start(path)}{secrets.token_hex(4)}.part")
    try:
        with open(spare, "xb") as file:
            yield file
            file.flush()
            flush_to_disk(file.fileno())
        _move(spare, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise NotSaved(
            f'"{path.absolute()}" could not be written ({error.strerror or error})',
            f"a folder that takes files with {size / 1e6:.1f} MB free was expected",
            "choose another folder or make room and save again",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            spare.unlink(missing_ok=True)


def flush_to_disk(handle: int) -> None:
    """What was written through this handle has reached the disk, where the folder can tell."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise


def check_takes_files(folder: Path) -> None:
    """Nothing, once a file was made, moved and removed in the folder (made where missing); raises NotSaved."""
    trial = folder / f".trial-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(trial, bytes(TRIAL_BYTES))
        trial.unlink()
    except (OSError, NotSaved) as error:
        cause = error.__cause__ if isinstance(error, NotSaved) else error
        raise NotSaved(
            f'the folder "{folder.absolute()}" takes no files ({getattr(cause, "strerror", None) or cause})',
            "a folder that can be written was expected",
            "choose another folder, or allow writing in this one",
        ) from error


def remove_spares(path: Path) -> None:
    """What writers of `path` left behind that were killed goes away; call it where no other one is at work."""
    with contextlib.suppress(OSError):
        for spare in path.parent.glob(f"{_spare_start(path)}*.part"):
            with contextlib.suppress(OSError):
                spare.unlink()


def _spare_start(path: Path) -> str:
    return f".{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-"  # a long name and more would be too long a name


def _move(spare: Path, path: Path) -> None:
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            os.replace(spare, path)
            return
        except PermissionError:
            if pause == PAUSES_S[-1]:
                raise


def _flush_folder(folder: Path) -> None:
    """The new name outlives a power cut too; Windows opens no folders, and needs none of this."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_header(path: Path, what: str = "concept file") -> dict[str, Any]:
    """The header of a safetensors file, `__metadata__` among its entries; no tensor is read. Raises BadConcept."""
    expected = f"a {what} (safetensors) was expected"
    try:
        with open(path, "rb") as file:
            start = file.read(HEADER_LENGTH_BYTES)
            length = int.from_bytes(start, "little")
            whole = len(start) == HEADER_LENGTH_BYTES and length <= MAX_HEADER_BYTES
            text = file.read(length) if whole else b""
    except OSError as error:
        raise BadConcept(
            f'"{path.name}" could not be read ({error.strerror or error})', expected, "check the path"
        ) from error
    try:
        if len(text) != length:
            raise ValueError("cut short")
        header = json.loads(text)
        metadata = header.setdefault("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadConcept(f'"{path.name}" {_diagnosis(start)}', expected, "save or download it again") from error
    return dict(header)


def read_tensors(
    path: Path, what: str = "concept file", max_bytes: int | None = MAX_FILE_BYTES
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; nothing in it is ever executed. Raises BadConcept."""
    metadata = read_header(path, what)["__metadata__"]
    expected = f"a {what} (safetensors) was expected"
    try:
        if max_bytes is not None and path.stat().st_size > max_bytes:
            raise BadConcept(
                f'"{path.name}" has {path.stat().st_size / 1e9:.1f} GB',
                f"a {what} of at most {max_bytes / 1e9:.0f} GB was expected",
                "choose another file",
            )
        data = path.read_bytes()
    except OSError as error:
        raise BadConcept(
            f'"{path.name}" could not be read ({error.strerror or error})', expected, "check the path"
        ) from error
    try:
        return safetensors.torch.load(data), dict(metadata)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise BadConcept(f'"{path.name}" {_diagnosis(data)}', expected, "save or download it again") from error


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Nothing, or BadConcept when a number is NaN or infinite."""
    for key, x in tensors.items():
        if not torch.isfinite(x).all():
            raise BadConcept(
                f'"{name}" holds NaN or infinity in {key}', "finite numbers were expected", "train or download it again"
            )


def read_words(data: bytes) -> str:
    """A text file's words in whatever encoding people's editors write: UTF-8, UTF-16 or Windows' cp1252.

    UTF-16 is known by its mark, or by the zeros between its letters. Raises UnicodeDecodeError.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:
        return data.decode("utf-16-be" if data[:2].startswith(b"\0") else "utf-16-le")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _diagnosis(data: bytes) -> str:
    if not data:
        return "is empty"
    if data.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "is a file of Python objects under another name, which could run code"
    return "is cut short, damaged or no safetensors file"
