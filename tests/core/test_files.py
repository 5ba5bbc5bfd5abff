"""Files are written wholly or not at all, on every system; what is read has limits."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from dci_core import files
from dci_core.errors import BadConcept, NotSaved
from dci_core.files import check_takes_files, read_header, read_tensors, remove_spares, write_bytes, write_tensors

TENSORS = {
    "b": torch.arange(12.0).reshape(3, 4),
    "a": torch.arange(3).half(),
    "turned": torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).bfloat16().T,
    "none": torch.zeros(0, 4),
    "one": torch.tensor(2.5),
    "größe": torch.arange(3),
    "yes": torch.tensor([True, False]),
}


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 16 MiB: what a full disk does to a write half way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, before[1]))  # more than what tests write into a log
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def as_on_windows(handle: int) -> None:
    """What flushing does there: a handle that was opened for reading cannot be flushed, a folder cannot be opened."""
    is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
    if is_folder or fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")


def fails(number: int) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_what_the_formats_own_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"key": "wert ü"})
    own = safetensors.torch.save({name: x.contiguous() for name, x in TENSORS.items()}, {"key": "wert ü"})
    assert path.read_bytes()[8:].replace(b" ", b"") == own[8:].replace(b" ", b"")
    found, metadata = read_tensors(path)
    assert metadata == {"key": "wert ü"} and found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], x) for name, x in TENSORS.items())
    assert read_header(path)["b"]["shape"] == [3, 4]


def test_a_file_is_written_where_a_handle_for_reading_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "fsync", as_on_windows)
    with open(tmp_path / "probe", "wb"), open(tmp_path / "probe", "rb") as probe, pytest.raises(OSError):
        files.os.fsync(probe.fileno())
    write_tensors(tmp_path / "x.safetensors", TENSORS, {})
    check_takes_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probe", "x.safetensors"]


def test_a_file_is_written_where_a_folder_cannot_flush_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "fsync", fails(errno.EINVAL))
    write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_disk_that_cannot_flush_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", fails(errno.EIO))
    with pytest.raises(NotSaved, match="x"):
        write_bytes(tmp_path / "x", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_is_held_open_for_a_moment_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, tried = os.replace, []

    def held(source: Path, target: Path) -> None:
        tried.append(target)
        if len(tried) < 3:
            raise PermissionError(errno.EACCES, "in use")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", held)
    monkeypatch.setattr(files.time, "sleep", lambda pause: None)
    write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new" and len(tried) == 3


def test_a_file_that_stays_held_open_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(files.os, "replace", fails(errno.EACCES))
    monkeypatch.setattr(files.time, "sleep", lambda pause: None)
    with pytest.raises(NotSaved, match="could not be written"):
        write_bytes(tmp_path / "x", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_disk_that_fills_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path, small_disk: None) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"old": torch.ones(3)}, {})
    with pytest.raises(NotSaved, match=rf'"{re.escape(str(path))}" could not be written .* 20\.0 MB free'):
        write_tensors(path, {"a": torch.ones(8), "large": torch.ones(5_000_000)}, {})
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(read_tensors(path)[0]["old"], torch.ones(3))


def test_a_folder_that_takes_no_files_is_found_out_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_takes_files(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotSaved, match=re.escape(f'"{tmp_path / "file"}" takes no files')):
        check_takes_files(tmp_path / "file")
    monkeypatch.setattr("builtins.open", fails(errno.EROFS))
    with pytest.raises(NotSaved, match="Read-only file system"):
        check_takes_files(tmp_path)


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="a folder of the kernel's that takes no files is asked")
def test_a_folder_that_even_the_administrator_cannot_write_to_is_refused() -> None:
    with pytest.raises(NotSaved, match='"/proc/sys" takes no files'):
        check_takes_files(Path("/proc/sys"))


def test_what_killed_writers_left_behind_goes_away_and_nothing_else(tmp_path: Path) -> None:
    path, other = tmp_path / "x.training", tmp_path / "y.training"
    for each in (path, other):
        with pytest.raises(KeyboardInterrupt), files.replacing(each, 3) as file:
            spares = list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))
            assert spares
            file.write(b"abc")
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    for each in (path, other):
        each.write_bytes(b"good")
        (tmp_path / f"{files._spare_start(each)}12345678.part").write_bytes(b"left")
    remove_spares(path)
    assert len(list(tmp_path.iterdir())) == 3 and path.read_bytes() == b"good"


def test_names_as_long_as_the_folder_takes_can_be_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "ü" * 127, "a name.with.dots", "名前.safetensors"):
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_a_header_without_sense_is_refused_before_anything_else_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    cases = {
        b"": "is empty",
        b"\xff" * 8 + b"{}": "cut short",
        (1 << 40).to_bytes(8, "little") + b"{}": "cut short",
        (100).to_bytes(8, "little") + b"{}": "cut short",
        (2).to_bytes(8, "little") + b"[]": "cut short",
        (200_000).to_bytes(8, "little") + b"[" * 200_000: "cut short",
        (24).to_bytes(8, "little") + b'{"__metadata__":{"a":1}}': "cut short",
        (23).to_bytes(8, "little") + b'{"__metadata__":"text"}': "cut short",
        b"PK\x03\x04 zipped objects": "could run code",
    }
    for data, words in cases.items():
        path.write_bytes(data)
        for read in (read_header, read_tensors):
            with pytest.raises(BadConcept, match=words):
                read(path)
    write_tensors(path, {"x": torch.ones(4)}, {})
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    with pytest.raises(BadConcept, match="at most 0 GB"):
        read_tensors(path, max_bytes=10)
    assert read_tensors(path, max_bytes=None)[0].keys() == {"x"}
