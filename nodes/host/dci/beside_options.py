"""Options of the host's model with which a guider takes predictions that are known already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .plan import KEY

PREDICTIONS = "calc_cond_batch"  # the host's kind of wrapper around all conditionings of a step
OURS = ("transformer_options", "sampler_post_cfg_function")  # what such a copy has of ours
WINDOWS = "context_handler"  # it cuts a step into windows of frames, around those wrappers


def with_wrapper(options: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """Options with an innermost function of ours around all conditionings of a step."""
    inner = dict(options.get("transformer_options", {}))
    wrappers = dict(inner.get("wrappers", {}))
    wrappers[PREDICTIONS] = {**wrappers.get(PREDICTIONS, {}), KEY: [function]}
    return {**options, "transformer_options": {**inner, "wrappers": wrappers}}


def hand_back(options: dict[str, Any], used: Mapping[str, Any]) -> None:
    """Puts what guests left in a copy of a run's options into these, where they look for it at the next step."""
    for name, left in used.items():
        if name not in OURS:
            options.setdefault(name, left)


def watching(options: dict[str, Any], conds: Mapping[str, Any], x: Tensor, plain: dict[str, Tensor]) -> dict[str, Any]:
    """Options that note in `plain` what each list of conditionings predicts for x, the first time in a step."""
    names = {id(entries): name for name, entries in conds.items()}

    def look(executor: Any, model: Any, lists: Any, x_in: Tensor, *args: Any, **kwargs: Any) -> Any:
        out = executor(model, lists, x_in, *args, **kwargs)
        if x_in.data_ptr() == x.data_ptr() and x_in.shape == x.shape:
            for entries, x0 in zip(lists, out, strict=False):
                if id(entries) in names:
                    plain.setdefault(names[id(entries)], x0.clone())
        return out

    return with_wrapper(options, look)


def with_predictions(options: dict[str, Any], known: Mapping[int, Tensor]) -> dict[str, Any]:
    """Options under which lists of conditionings give what is known of them; the others run under the old options.

    known  id of a list -> its prediction
    """
    from comfy.samplers import calc_cond_batch

    def take(executor: Any, model: Any, lists: Any, x: Tensor, timestep: Tensor, *args: Any, **kwargs: Any) -> Any:
        missing = [entries for entries in lists if entries is not None and id(entries) not in known]
        ran = iter(calc_cond_batch(model, missing, x, timestep, options) if missing else [])
        return [
            torch.zeros_like(x) if entries is None else known[id(entries)] if id(entries) in known else next(ran)
            for entries in lists
        ]

    return with_wrapper({key: value for key, value in options.items() if key != WINDOWS}, take)
