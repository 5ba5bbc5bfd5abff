"""Runs an `AttentionRule` in the layers of a transformer in which text and image are one stream: Z-Image, Krea 2.

The host has no block replacement there; its attention override is told which layer runs. Before the layers the text
goes through blocks of its own (refiners): a rule acts there where keys and values are projected, before norms and
rotary, since that is where a concept changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ....dci_core.attention.call import AttentionCall, AttentionRule
from ....dci_core.attention.layers import LayerId
from ....dci_core.attention.rows import TokenRows
from ....dci_core.errors import BadSettings
from ....dci_core.families.weight_names import ALONE_STAGES, FUSED_STAGES, LAYER, PARTS, block_path, module_path
from .joint_run import JointRun, with_override

INDEX = "block_index"  # of the layer that runs, in the host's options
REFERENCES = "reference_image_num_tokens"  # of each reference latent; they stand behind the picture's, and are nobody's
QKV = ("q", *PARTS)
Given = tuple[str, ...]  # of a module that projects: which of QKV it gives, side by side
WRAPPERS, KIND, KEY = "wrappers", "diffusion_model", "ico_dci_single_stream"


@dataclass(eq=False)
class StreamFrame:
    """What one model call tells all its layers.

    grid      (h, w) of the image tokens
    layers    in which the rule acts
    refiners  in which the rule acts, the text's own
    text      number of text tokens, noted when the call begins; the host fills up text and image to whole multiples,
              where it does
    """

    rule: AttentionRule
    network: Any
    grid: tuple[int, int]
    layers: frozenset[int]
    refiners: frozenset[LayerId]
    text: int = 0

    def filled(self, count: int) -> int:
        """Rows that the host makes of so many tokens."""
        step = getattr(self.network, "pad_tokens_multiple", None) or 1
        return -(-count // step) * step

    def run_of(self, told: dict[str, Any]) -> JointRun | None:
        """The run of the layer that an attention belongs to."""
        options = told.get("transformer_options") or {}
        index = options.get(INDEX)
        if index not in self.layers:
            return None
        own = self.grid[0] * self.grid[1]
        first = self.filled(self.text)
        rows = TokenRows(slice(0, self.text), slice(first, first + own))
        total = first + self.filled(own) + sum(options.get(REFERENCES, ()))
        return JointRun(LayerId(LAYER, index), self.rule, rows, total, self.grid, None, None)

    def around(self, executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """The host's wrapper of a call of the network."""
        given = signature(self.network._forward).bind(*args, **kwargs).arguments
        if given.get("ref_latents") and not hasattr(self.network, "default_ref_method"):  # Krea 2 tells their rows
            raise BadSettings(
                "reference latents came with DCI or a training on Z-Image",
                "one text and one picture are expected",
                "leave the reference latents out",
            )
        self.text = int(given["context"].shape[1])
        with self.refiners_ruled():
            return executor(*args, **kwargs)

    @contextmanager
    def refiners_ruled(self) -> Iterator[None]:
        """Inside, the rule acts in the text's own blocks."""
        hooks = [
            self.network.get_submodule(path).register_forward_hook(self.projecting(layer, gives))
            for layer in self.refiners
            for path, gives in projections_of(layer)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def projecting(self, layer: LayerId, gives: Given) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        """What changes the keys and values of a refiner [b t (heads d)] where they are projected.

        gives  which of queries, keys and values that module gives, side by side
        """

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            parts = dict(zip(gives, out.chunk(len(gives), dim=-1), strict=True))
            here = next(iter(parts.values()))  # stands in for what another module gives: that is not looked at

            def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
                parts.update({name: new for name, new in zip(PARTS, (k, v), strict=True) if name in parts})
                return q

            q, k, v = (parts.get(name, here) for name in QKV)
            rows = TokenRows.text_first(q.shape[1], 0)
            self.rule(AttentionCall(q, k, v, inputs[0], 1, (0, 0), layer, attend, rows))
            return torch.cat([parts[name] for name in gives], dim=-1)

        return hook


def projections_of(layer: LayerId) -> list[tuple[str, Given]]:
    """(path of each module that projects a refiner's keys or values, what it gives)."""
    if layer.stage in FUSED_STAGES:
        return [(f"{block_path(layer)}.qkv", QKV)]
    return [(module_path(layer, part), (part,)) for part in PARTS]


def with_single_stream(
    options: dict[str, Any], layers: Iterable[LayerId], rule: AttentionRule, network: Any, grid: tuple[int, int]
) -> dict[str, Any]:
    """A copy of the transformer options in which the rule acts in these layers and refiners."""
    chosen = list(layers)
    joint = frozenset(layer.block for layer in chosen if layer.stage == LAYER)
    alone = frozenset(layer for layer in chosen if layer.stage in ALONE_STAGES)
    frame = StreamFrame(rule, network, grid, joint, alone)
    wrappers = dict(options.get(WRAPPERS, {}))
    wrappers[KIND] = {**wrappers.get(KIND, {}), KEY: [frame.around]}
    return {**with_override(options, frame.run_of), WRAPPERS: wrappers}
