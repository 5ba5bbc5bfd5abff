"""Runs an `AttentionRule` in the layers of a transformer in which text and image are one stream: Z-Image.

The host has no block replacement there; its attention override is told which layer runs. Before the layers the text
goes through blocks of its own (refiners): a rule acts there where keys and values are projected, before norms and
rotary, since that is where a concept changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....dci_core.attention.call import AttentionCall, AttentionRule
from ....dci_core.attention.layers import LayerId
from ....dci_core.attention.rows import TokenRows
from ....dci_core.errors import BadSettings
from ....dci_core.families.weight_names import LAYER, REFINER
from .joint_run import JointRun, with_override

INDEX = "block_index"  # of the layer that runs, in the host's options
WRAPPERS, KIND, KEY = "wrappers", "diffusion_model", "ico_dci_single_stream"


@dataclass(eq=False)
class StreamFrame:
    """What one model call tells all its layers.

    grid      (h, w) of the image tokens
    layers    in which the rule acts
    refiners  in which the rule acts, the text's own
    text      number of text tokens, noted when the call begins; the host fills up text and image to whole multiples
    """

    rule: AttentionRule
    network: Any
    grid: tuple[int, int]
    layers: frozenset[int]
    refiners: frozenset[int]
    text: int = 0

    def filled(self, count: int) -> int:
        """Rows that the host makes of so many tokens."""
        step = self.network.pad_tokens_multiple or 1
        return -(-count // step) * step

    def run_of(self, told: dict[str, Any]) -> JointRun | None:
        """The run of the layer that an attention belongs to."""
        index = (told.get("transformer_options") or {}).get(INDEX)
        if index not in self.layers:
            return None
        own = self.grid[0] * self.grid[1]
        first = self.filled(self.text)
        rows = TokenRows(slice(0, self.text), slice(first, first + own))
        return JointRun(LayerId(LAYER, index), self.rule, rows, first + self.filled(own), self.grid, None, None)

    def around(self, executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """The host's wrapper of a call of the network."""
        if kwargs.get("ref_latents"):
            raise BadSettings(
                "reference latents came with DCI or a training on Z-Image",
                "one text and one picture are expected",
                "leave the reference latents out",
            )
        context = args[2] if len(args) > 2 else kwargs["context"]
        self.text = int(context.shape[1])
        with self.refiners_ruled():
            return executor(*args, **kwargs)

    @contextmanager
    def refiners_ruled(self) -> Iterator[None]:
        """Inside, the rule acts in the text's own blocks."""
        hooks = [
            self.network.context_refiner[index].attention.qkv.register_forward_hook(self.projecting(index))
            for index in self.refiners
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def projecting(self, index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        """What changes the keys and values of a refiner [b t (three heads d)] where they are projected."""
        heads = self.network.context_refiner[index].attention.n_local_heads

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
            q, k, v = out.chunk(3, dim=-1)
            found: list[Tensor] = []

            def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
                found[:] = [k, v]
                return q

            rows = TokenRows.text_first(q.shape[1], 0)
            self.rule(AttentionCall(q, k, v, inputs[0], heads, (0, 0), LayerId(REFINER, index), attend, rows))
            return torch.cat((q, *found), dim=-1)

        return hook


def with_single_stream(
    options: dict[str, Any], layers: Iterable[LayerId], rule: AttentionRule, network: Any, grid: tuple[int, int]
) -> dict[str, Any]:
    """A copy of the transformer options in which the rule acts in these layers and refiners."""
    chosen = {stage: frozenset(layer.block for layer in layers if layer.stage == stage) for stage in (LAYER, REFINER)}
    frame = StreamFrame(rule, network, grid, chosen[LAYER], chosen[REFINER])
    wrappers = dict(options.get(WRAPPERS, {}))
    wrappers[KIND] = {**wrappers.get(KIND, {}), KEY: [frame.around]}
    return {**with_override(options, frame.run_of), WRAPPERS: wrappers}
