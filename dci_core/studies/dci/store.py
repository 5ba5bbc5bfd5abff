"""Results on disk, one line each: a study that was killed goes on, a study of other settings is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import BadSettings, NotSaved
from ...files import check_takes_files, write_bytes

ABOUT, LINES = "study.json", "cells.jsonl"
WORDS = {"size": "size", "ground": "training ground", "weights": "weights of the small world", "adapter": "adapter"}


@dataclass
class Store:
    """Finished cells by key."""

    folder: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, about: Mapping[str, Any]) -> Store:
        """The folder's results so far; raises BadSettings where they come from other settings, NotSaved.

        about  what the whole study depends on, as plain data
        """
        check_takes_files(folder)
        now = json.loads(json.dumps(about))
        path = folder / ABOUT
        if path.exists():
            check_same(read_about(path), now, folder.name)
        else:
            write_bytes(path, (json.dumps(now, indent=2) + "\n").encode())
        return cls(folder, read_lines(folder / LINES))

    def keep(self, key: str, numbers: dict[str, Any]) -> None:
        """The numbers stand in the file; raises NotSaved."""
        self.results[key] = numbers
        try:
            with open(self.folder / LINES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "numbers": numbers}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NotSaved(
                f'a result could not be added to "{(self.folder / LINES).absolute()}" ({error.strerror or error})',
                "a folder that takes files was expected",
                "make room and run the same command again: it goes on from here",
            ) from error


def read_about(path: Path) -> dict[str, Any]:
    """What the study in the folder depends on; raises BadSettings for a damaged file."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadSettings(
            f'"{path.name}" in the output folder cannot be read',
            "the study's own file was expected there",
            "choose another --out",
        ) from error


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: str) -> None:
    """Nothing, or BadSettings with the first thing that differs."""
    for name in now:
        if before.get(name) != now[name]:
            what = WORDS.get(name, name)
            raise BadSettings(
                f'the study in "{folder}" has another {what}{differing(before.get(name), now[name])}',
                "the settings that it was begun with were expected",
                "give those to go on with it, or choose another --out",
            )


def differing(before: object, now: object) -> str:
    """`: quick, not full`, for two values that are short; else the first field that differs, if there is one."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next((key for key in now if before.get(key) != now[key]), None)
        return "" if name is None else f" ({name}){differing(before.get(name), now[name])}"
    if isinstance(before, (dict, list)) or isinstance(now, (dict, list)):
        return ""
    return f": {before}, not {now}"


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Results by key; a last line that was cut short by a kill is left out, and the file is put right."""
    if not path.exists():
        return {}
    results, whole = {}, True
    data = path.read_text(encoding="utf-8")
    for line in data.splitlines():
        try:
            found = json.loads(line)
            results[found["key"]] = found["numbers"]
        except (ValueError, KeyError, TypeError):
            whole = False
    if not whole or (data and not data.endswith("\n")):
        lines = [json.dumps({"key": key, "numbers": numbers}) for key, numbers in results.items()]
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    return results
