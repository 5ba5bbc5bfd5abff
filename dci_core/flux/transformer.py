"""FLUX.1's transformer: double-stream blocks, then single-stream ones; predicts a velocity."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..attention.call import AttentionRule
from ..attention.rows import TokenRows
from .blocks import Condition, DoubleBlock, Hook, LastLayer, SingleBlock
from .layers import FluxParams, MlpEmbedder, Modulation, rotary, timestep_embedding


class MMDiT(nn.Module):
    """Predicts noise - x0 from x = (1 - t) x0 + t noise.

    recomputes  where gradients flow, blocks run once more on the way back instead of keeping what they computed
    """

    def __init__(self, params: FluxParams) -> None:
        super().__init__()
        self.params, self.recomputes = params, False
        self.img_in = nn.Linear(params.token_channels, params.width)
        self.txt_in = nn.Linear(params.text_width, params.width)
        self.time_in, self.vector_in = MlpEmbedder(256, params.width), MlpEmbedder(params.vector_width, params.width)
        self.guidance_in = MlpEmbedder(256, params.width) if params.guidance else None
        self.double_blocks = nn.ModuleList([DoubleBlock(params, i) for i in range(params.double_blocks)])
        self.single_blocks = nn.ModuleList([SingleBlock(params, i) for i in range(params.single_blocks)])
        self.final_layer = LastLayer(params)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        vector: Tensor,
        hook: Hook | None = None,
        mask: Tensor | None = None,
        guidance: Tensor | None = None,
        rule: AttentionRule | None = None,
    ) -> Tensor:
        """The velocity at x, [b channels h w].

        x         [b channels h w], h and w multiples of the patch
        t         [b], 0 clean to 1 noise
        context   [b text c], hidden states of the text's rows
        vector    [b c], the pooled text
        hook      the image prompt's rule, if there is one
        mask      [b text], True where a text row may be read; None: all of them
        guidance  [b], strength of the guidance that the model is distilled for; None where it is not
        rule      computes every joint attention anew; hook and mask are not asked then
        """
        patch, grid = self.params.patch, (x.shape[2] // self.params.patch, x.shape[3] // self.params.patch)
        rows = TokenRows.text_first(context.shape[1], grid[0] * grid[1])
        image = self.img_in(rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch))
        text = self.txt_in(context)
        joined = self.time_in(timestep_embedding(t).to(x)) + self.vector_in(vector)
        if self.guidance_in is not None and guidance is not None:
            joined = joined + self.guidance_in(timestep_embedding(guidance).to(x))
        keys = None if mask is None else torch.cat((mask, mask.new_ones(len(mask), rows.image_count)), dim=1)
        turns = rotary(row_ids(rows.text_count, grid).to(x.device), self.params)
        at = Condition(joined, turns, rows, grid, keys, hook, rule)
        for double in self.double_blocks:
            image, text = self._run(double, image, text, at)
        both = torch.cat((text, image), dim=1)
        for single in self.single_blocks:
            both = self._run(single, both, at)
        tokens = self.final_layer(both[:, rows.image], joined)
        return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=grid[0], p=patch, q=patch)

    def _run(self, block: nn.Module, *rows: Any) -> Any:
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(block, *rows, use_reentrant=False, preserve_rng_state=False)
        return block(*rows)


def row_ids(text_count: int, grid: tuple[int, int]) -> Tensor:
    """Ids [n 3] of the joint sequence: zeros for text, (0, y, x) for image tokens."""
    height, width = grid
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    return torch.cat((torch.zeros(text_count, 3), nn.functional.pad(places, (1, 0)).float()))


def start_as_identity(model: MMDiT) -> None:
    """Zeroes every modulation and the last map: blocks begin closed, and the velocity is 0."""
    for part in model.modules():
        if isinstance(part, Modulation | LastLayer):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)
