"""Options of the command line as settings: what is not given stays the default's."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


def chosen(defaults: S, options: Namespace, **others: Any) -> S:
    """The defaults with every option of the same name that was given, and the others."""
    names = {field.name for field in dataclasses.fields(defaults)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    return dataclasses.replace(defaults, **given, **others)
