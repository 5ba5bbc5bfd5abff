"""The blocks of FLUX.1's transformer, and where an image prompt's rule adds to them.

Parameter names as in Black Forest Labs' checkpoints; axes as in `layers`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..attention.call import AttentionCall, AttentionRule
from ..attention.joint import BlockId, JointCall, JointRule
from ..attention.layers import LayerId
from ..attention.rows import TokenRows
from .layers import FluxParams, Modulation, QkNorm, attend, modulated, split_heads, turned


@dataclass(frozen=True)
class Hook:
    """A rule and what every call of it in one forward has in common.

    place  "attention": the rule's addition goes to the attention output before its projection;
           "stream": to the image stream after the block, and the rule sees the image rows alone
    """

    rule: JointRule
    reads: Tensor
    place: str = "attention"

    def asks(self, q: Tensor, rows: TokenRows, block: BlockId, grid: tuple[int, int]) -> Tensor | None:
        """What the rule adds, [b n (heads d)], for queries q [b n heads d]."""
        return self.rule(JointCall(q.transpose(1, 2), rows, block, grid, self.reads))


@dataclass(frozen=True)
class Condition:
    """What every block of one forward gets.

    vector  [b c], from the time and the pooled text
    turns   [n d/2], rotary, of the whole joint sequence
    mask    [b n], True where a key may be read; None: everywhere
    hook    an image prompt's rule, which adds to the attention
    rule    computes the attention anew in every block; None: plain, bit for bit
    """

    vector: Tensor
    turns: Tensor
    rows: TokenRows
    grid: tuple[int, int]
    mask: Tensor | None = None
    hook: Hook | None = None
    rule: AttentionRule | None = None


@dataclass(frozen=True)
class TextRows:
    """The text rows of one block before its norms.

    rows  [b t c], what keys and values were projected from
    key   [b t heads d], as projected
    norm  of the keys that follows
    """

    rows: Tensor
    key: Tensor
    norm: QkNorm

    @classmethod
    def of(cls, rows: Tensor, qkv: Tensor, norm: QkNorm, heads: int) -> TextRows:
        """From a fused map's output for these rows, [b t (three heads d)]."""
        return cls(rows, rearrange(qkv, "b t (three heads d) -> three b t heads d", three=3, heads=heads)[1], norm)


class Attended(nn.Module):
    """What the blocks share: joint attention, and the rules in it and beside it."""

    def __init__(self, params: FluxParams, block: BlockId) -> None:
        super().__init__()
        self.heads, self.block = params.heads, block

    def joint(self, qk: Tensor, v: Tensor, at: Condition, text: TextRows) -> tuple[Tensor, Tensor | None]:
        """(attention output [b n c], addition to the image stream after the block [b n' c] or None)."""
        if at.rule is not None:
            return at.rule(self.call(qk, v, at, text)), None
        out = attend(qk, v, at.turns, at.mask)
        if at.hook is None:
            return out, None
        q = qk[:, :, 0]
        if at.hook.place == "stream":
            rows = TokenRows.image_only(at.rows.image_count)
            return out, at.hook.asks(q[:, at.rows.image], rows, self.block, at.grid)
        added = at.hook.asks(q, at.rows, self.block, at.grid)
        return (out if added is None else out + added), None

    def call(self, qk: Tensor, v: Tensor, at: Condition, text: TextRows) -> AttentionCall:
        """This attention as a rule sees it, from the arguments of `joint`."""
        q, k = turned(qk, at.turns).flatten(3).unbind(2)  # each [b n (heads d)]
        value, where = v.flatten(2), at.rows.text

        def project(key: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            added = rearrange(key, "b t (heads d) -> b t heads d", heads=self.heads).to(text.key)
            fresh = turned(text.norm.keys(text.key + added), at.turns[where])
            parts = ((k, fresh.flatten(2)), (value, value[:, where] + values.to(value)))
            changed = (torch.cat((x[:, : where.start], own, x[:, where.stop :]), dim=1) for x, own in parts)
            return next(changed), next(changed)

        layer = LayerId(self.block.stream, self.block.index)
        return AttentionCall(q, k, value, text.rows, self.heads, at.grid, layer, rows=at.rows, project=project)


class StreamAttention(nn.Module):
    """The maps of one stream around the joint attention."""

    def __init__(self, params: FluxParams) -> None:
        super().__init__()
        self.heads = params.heads
        self.qkv, self.norm = nn.Linear(params.width, 3 * params.width), QkNorm(params.head_dim)
        self.proj = nn.Linear(params.width, params.width)

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """(normed queries and keys [b n 2 heads d], values [b n heads d]) of what `qkv` gives."""
        return split_heads(qkv, self.norm, self.heads)


def mlp(params: FluxParams) -> nn.Sequential:
    """Two maps around GELU."""
    inner = params.mlp_ratio * params.width
    return nn.Sequential(nn.Linear(params.width, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, params.width))


class DoubleBlock(Attended):
    """Joint attention over text and image rows that keep their own weights."""

    def __init__(self, params: FluxParams, index: int) -> None:
        super().__init__(params, BlockId("double", index))
        self.img_mod, self.txt_mod = Modulation(params.width, 6), Modulation(params.width, 6)
        self.img_attn, self.txt_attn = StreamAttention(params), StreamAttention(params)
        self.img_mlp, self.txt_mlp = mlp(params), mlp(params)

    def forward(self, image: Tensor, text: Tensor, at: Condition) -> tuple[Tensor, Tensor]:
        """(image rows, text rows) after the block."""
        image_mod, text_mod = self.img_mod(at.vector), self.txt_mod(at.vector)
        image_qk, image_v = self.img_attn.split(self.img_attn.qkv(modulated(image, *image_mod[:2])))
        words = modulated(text, *text_mod[:2])
        text_qkv = self.txt_attn.qkv(words)
        text_qk, text_v = self.txt_attn.split(text_qkv)
        own = TextRows.of(words, text_qkv, self.txt_attn.norm, self.heads)
        out, after = self.joint(torch.cat((text_qk, image_qk), dim=1), torch.cat((text_v, image_v), dim=1), at, own)
        image = torch.addcmul(image, image_mod[2], self.img_attn.proj(out[:, at.rows.image]))
        image = torch.addcmul(image, image_mod[5], self.img_mlp(modulated(image, *image_mod[3:5])))
        text = torch.addcmul(text, text_mod[2], self.txt_attn.proj(out[:, at.rows.text]))
        text = torch.addcmul(text, text_mod[5], self.txt_mlp(modulated(text, *text_mod[3:5])))
        return (image if after is None else image + after), text


class SingleBlock(Attended):
    """Joint attention and MLP side by side, one set of weights for all rows."""

    def __init__(self, params: FluxParams, index: int) -> None:
        super().__init__(params, BlockId("single", index))
        self.widths = [3 * params.width, params.mlp_ratio * params.width]
        self.modulation, self.norm = Modulation(params.width, 3), QkNorm(params.head_dim)
        self.linear1 = nn.Linear(params.width, sum(self.widths))
        self.linear2 = nn.Linear(params.width + self.widths[1], params.width)

    def forward(self, x: Tensor, at: Condition) -> Tensor:
        """All rows [b n c] after the block."""
        shift, scale, gate = self.modulation(at.vector)
        rows = modulated(x, shift, scale)
        qkv, inner = self.linear1(rows).split(self.widths, dim=-1)
        own = TextRows.of(rows[:, at.rows.text], qkv[:, at.rows.text], self.norm, self.heads)
        out, after = self.joint(*split_heads(qkv, self.norm, self.heads), at, own)
        x = torch.addcmul(x, gate, self.linear2(torch.cat((out, gelu(inner, approximate="tanh")), dim=-1)))
        if after is not None:
            x = torch.cat((x[:, at.rows.text], x[:, at.rows.image] + after), dim=1)
        return x


class LastLayer(nn.Module):
    """Modulated norm and the map to an image token's numbers."""

    def __init__(self, params: FluxParams) -> None:
        super().__init__()
        self.linear = nn.Linear(params.width, params.token_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(params.width, 2 * params.width))

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=-1)
        return self.linear(modulated(x, shift, scale))
