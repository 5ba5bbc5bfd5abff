"""Models from folders in the layout of transformers: opened from this machine alone, in silence, with one error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import BadModel

AGAIN = "download the whole model again"


def library(name: str, for_what: str) -> Any:
    """transformers or diffusers, imported where it is first needed; raises BadModel where it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise BadModel(
            f"the Python package {name} is not installed",
            f"{for_what} need it",
            f"install it with `pip install {name}`",
        ) from error


def load_whole(source: Any, kind: str, folder: Path, do: str = AGAIN, **options: Any) -> Any:
    """A model of one of the library's classes with every weight from the folder's safetensors; raises BadModel."""
    with quiet(source), readable(folder, f"the weights of a {kind} are expected", do):
        model, report = getattr(source, kind).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    if report["missing_keys"]:
        raise BadModel(
            f'the weights in "{folder.name}" lack {sorted(report["missing_keys"])[0]}',
            f"all weights of a {kind} are expected",
            do,
        )
    return model.eval().requires_grad_(False)


@contextmanager
def readable(folder: Path, expected: str, do: str = AGAIN) -> Iterator[None]:
    """Whatever goes wrong while a folder is read becomes one BadModel; the library has no error type of its own."""
    try:
        yield
    except BadModel:
        raise
    except Exception as error:
        logging.getLogger(__name__).debug("reading %s", folder, exc_info=error)
        reason = first_line(error)
        raise BadModel(f'"{folder.name}" cannot be loaded ({reason})', expected, do) from error


def first_line(error: Exception) -> str:
    """What an error says first, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:;")[:160]


@contextmanager
def quiet(source: Any) -> Iterator[None]:
    """The own bars and reports of transformers or diffusers stay silent while this lasts."""
    tell = source.utils.logging
    level, had_bar = tell.get_verbosity(), tell.is_progress_bar_enabled()
    tell.set_verbosity_error()
    tell.disable_progress_bar()
    try:
        yield
    finally:
        tell.set_verbosity(level)
        if had_bar:
            tell.enable_progress_bar()
