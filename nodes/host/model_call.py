"""The host's model call as its wrappers see it, in one piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class ModelCall:
    """Arguments of the host's APPLY_MODEL, the same six in every family, and what else came by name.

    x        [rows ...], noisy latents
    t        [rows], noise levels
    options  the transformer options
    extras   pooled vectors, sizes, marks of other wrappers
    """

    x: Tensor
    t: Tensor
    c_concat: Tensor | None = None
    c_crossattn: Tensor | None = None
    control: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **extras: Any,
    ) -> ModelCall:
        """The call from a wrapper's arguments."""
        return cls(x, t, c_concat, c_crossattn, control, transformer_options or {}, extras)

    def split_mark(self, name: str) -> tuple[Any, ModelCall]:
        """(what one of our conditionings sent along under that name, or None; the call without it)."""
        extras = dict(self.extras)
        return extras.pop(name, None), replace(self, extras=extras)

    def with_options(self, options: dict[str, Any]) -> ModelCall:
        """The same call with other transformer options."""
        return replace(self, options=options)

    def inputs(self) -> list[Any]:
        """Everything that may have a row for each of the batch."""
        return [self.x, self.t, self.c_concat, self.c_crossattn, self.control, self.extras]

    def over(self, choose: Callable[[Any], Any]) -> ModelCall:
        """The same call over other rows; `choose` takes them out of each input."""
        x, t, c_concat, c_crossattn, control, extras = map(choose, self.inputs())
        return ModelCall(x, t, c_concat, c_crossattn, control, self.options, extras)

    def run(self, executor: Any) -> Tensor:
        """x0 [rows ...] from the rest of the host's chain of wrappers."""
        return executor(self.x, self.t, self.c_concat, self.c_crossattn, self.control, self.options, **self.extras)
