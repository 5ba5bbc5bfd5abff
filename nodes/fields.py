"""Small helpers for schemas."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from comfy_api.latest import io

CATEGORY = "ICO + DCI"


def schema(shelf: str, **parts: Any) -> io.Schema:
    """A schema on that shelf of our category; parts that an older host does not know are left out."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(category=f"{CATEGORY}/{shelf}", **{name: value for name, value in parts.items() if name in known})


def widget(kind: Any, name: str, *, advanced: bool = False, **options: Any) -> Any:
    """One input; `advanced` folds it away on the page."""
    is_known = "advanced" in inspect.signature(kind.Input.__init__).parameters
    made = kind.Input(name, **options, **({"advanced": True} if advanced and is_known else {}))
    if advanced and not is_known and isinstance(getattr(made, "extra_dict", None), dict):
        made.extra_dict = {
            **made.extra_dict,
            "advanced": True,
        }  # our page extension reads it
    return made


def text(name: str, *, default: str = "", multiline: bool = False, **options: Any) -> Any:
    """A text input; the page never rewrites braces in it."""
    return widget(io.String, name, default=default, multiline=multiline, dynamic_prompts=False, **options)
