"""Options of the command line as settings: what is not given stays the default's."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from typing import Any, TypeVar

S = TypeVar("S")


def chosen(defaults: S, options: Namespace, **others: Any) -> S:
    """The defaults with every option of the same name that was given, and the others."""
    names = {field.name for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    return dataclasses.replace(defaults, **given, **others)  # type: ignore[type-var]
