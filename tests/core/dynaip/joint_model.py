"""A joint-attention toy of the tiny flow family's shape for image prompts, text first or image first."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from dci_core.attention.joint import BlockId, JointCall, JointRule
from dci_core.attention.rows import TokenRows
from dci_core.families.mmdit import FAMILIES, MmditFamily

TOY = FAMILIES["tiny_flow"]
GRID = (4, 6)
IMAGES, TEXTS = 24, 7


class Block(nn.Module):
    """Joint attention and a residual; a double block keeps one set of weights per stream."""

    def __init__(self, block: BlockId, family: MmditFamily) -> None:
        super().__init__()
        self.block, self.heads = block, family.heads
        streams = ("image", "text") if block.stream == "double" else ("both",)
        self.qkv = nn.ModuleDict({name: nn.Linear(family.width, 3 * family.width) for name in streams})
        self.out = nn.ModuleDict({name: nn.Linear(family.width, family.width) for name in streams})

    def per_row(self, layers: nn.ModuleDict, x: Tensor, rows: TokenRows) -> Tensor:
        if "both" in layers:
            return layers["both"](x)
        parts = [layers["image"](x[:, rows.image]), layers["text"](x[:, rows.text])]
        return torch.cat(parts if rows.image.start < rows.text.start else parts[::-1], dim=1)

    def forward(self, x: Tensor, call: dict, rule: JointRule | None) -> tuple[Tensor, Tensor]:
        """(new rows, attention output before the projection), both [b n width]."""
        rows = call["rows"]
        qkv = self.per_row(self.qkv, x, rows)
        q, k, v = rearrange(qkv, "b n (three heads d) -> three b heads n d", three=3, heads=self.heads)
        q, k = (rms_norm(each, each.shape[-1:]) for each in (q, k))
        out = rearrange(scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)")
        delta = None if rule is None else rule(JointCall(q=q, block=self.block, **call))
        out = out if delta is None else out + delta
        return x + self.per_row(self.out, out, rows), out


@dataclass
class Run:
    """What one forward pass gave: its last rows, and every block's attention output."""

    rows: TokenRows
    last: Tensor
    attention: dict[BlockId, Tensor] = field(default_factory=dict)

    @property
    def image(self) -> Tensor:
        return self.last[:, self.rows.image]


class JointModel(nn.Module):
    """Random, in float64 so that comparisons are sharp."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.blocks = nn.ModuleList(Block(block, TOY) for block in TOY.block_ids)
        self.to(dtype)

    @torch.no_grad()
    def forward(
        self,
        image: Tensor,
        text: Tensor,
        rule: JointRule | None = None,
        *,
        text_first: bool = True,
        reads: Tensor | None = None,
    ) -> Run:
        make = TokenRows.text_first if text_first else TokenRows.image_first
        rows = make(text.shape[1], image.shape[1])
        x = torch.cat([text, image] if text_first else [image, text], dim=1)
        call = {"rows": rows, "grid": GRID, "reads": torch.ones(len(x)) if reads is None else reads}
        attention = {}
        for block in self.blocks:
            x, attention[block.block] = block(x, call, rule)
        return Run(rows, x, attention)


def draw_inputs(batch: int = 2, seed: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """(image rows, text rows) of the toy."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, IMAGES, TOY.width, generator=generator, dtype=dtype),
        torch.randn(batch, TEXTS, TOY.width, generator=generator, dtype=dtype),
    )
