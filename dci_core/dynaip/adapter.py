"""The adapter: hidden states of a CLIP vision model -> reference tokens -> keys and values of every block.

Shapes: b pictures, t tokens of the vision model, m reference tokens, c their width, d head width.
Source: dynaip.md sections 3 and 4, reconstruction; facts 1 (both branches have a reference attention) and 7 (CLIP).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from ..attention.joint import PLACES, BlockId
from ..errors import BadAdapter, BadModel
from ..families.mmdit import find_mmdit
from .decoupled import BlockKV, KeyValue
from .fusion import Fused, Fusion, States
from .resampler import ExpertParams

NORMS = ("none", "keys", "both")
NORM_EPSILON = 1e-5
VISION_OUTPUTS = {
    "states": "hidden states",
    "projected": "projected vector",
    "pooled": "pooled vector",
    "tokens": "last SigLIP states",
}


@dataclass(frozen=True)
class AdapterParams:
    """Everything that an adapter's shape follows from.

    family         name of an MM-DiT family
    vision_width   of the CLIP vision model's hidden states; of its pooled vector where that is what is read
    vision_layers  of the CLIP vision model; 0 where a pooled vector or SigLIP's last states are read
    vision_output  "states"; a pooled vector: "projected" (CLIP's image embedding) or "pooled" (before projection);
                   "tokens": a SigLIP's last states behind its last norm, which the adapter pools by a head of its own
    levels         hidden states that are fused, from shallow to deep; 0 is the patch embedding
    tokens         reference tokens of one picture
    token_width    their width
    text_kv        text rows of double blocks have keys and values of their own; else they read those of image rows
    norm           which of keys and values get a weight-free norm per head: "none", "keys" or "both"
    place          "attention": added to the attention output before its projection; "stream": to the image stream
                   behind the block, ungated
    blocks         blocks that have keys and values; None: all of the family
    """

    family: str
    vision_width: int = 1024
    vision_layers: int = 24
    vision_output: str = "states"
    levels: tuple[int, ...] = (10, 17, 23)
    tokens: int = 16
    token_width: int = 3072
    expert_depth: int = 4
    expert_width: int = 1280
    expert_heads: int = 20
    router_width: int = 256
    text_kv: bool = True
    norm: str = "keys"
    place: str = "attention"
    blocks: tuple[BlockId, ...] | None = None

    def __post_init__(self) -> None:
        family = find_mmdit(self.family)
        foreign = set(self.block_ids) - set(family.block_ids)
        levels_fit = sorted(set(self.levels)) == list(self.levels) and all(
            0 <= x <= self.vision_layers for x in self.levels
        )
        sizes = (self.vision_width, self.tokens, self.token_width, self.expert_width, self.expert_heads)
        named = self.norm in NORMS and self.place in PLACES and self.vision_output in VISION_OUTPUTS
        if foreign or not levels_fit or not named or min(sizes) < 1 or self.expert_width % self.expert_heads:
            raise BadAdapter(
                f"the adapter describes itself as {self}",
                f"blocks of {self.family}, rising levels within the vision model and sizes of 1 or more were expected",
                "correct its settings",
            )

    @property
    def block_ids(self) -> tuple[BlockId, ...]:
        """The blocks that have keys and values, in the order of the forward pass."""
        return find_mmdit(self.family).block_ids if self.blocks is None else self.blocks

    @property
    def reads(self) -> str:
        """What it reads of a vision model, in words."""
        return VISION_OUTPUTS[self.vision_output]

    @cached_property
    def expert(self) -> ExpertParams:
        """Sizes of each expert."""
        shape = self.expert_depth, self.expert_width, self.expert_heads
        return ExpertParams(self.vision_width, self.token_width, self.tokens, *shape)


def default_params(family: str) -> AdapterParams:
    """Sizes to start from: dynaip.md section 4 for ViT-L/14, small ones for the tiny world's own vision tower."""
    if family == "tiny_flow":
        return AdapterParams(
            family,
            vision_width=128,
            vision_layers=6,
            levels=(2, 4, 6),
            tokens=8,
            token_width=128,
            expert_depth=1,
            expert_width=128,
            expert_heads=4,
            router_width=64,
        )
    return AdapterParams(family, token_width=find_mmdit(family).width)


class ImagePromptAdapter(Protocol):
    """What every adapter can do, ours and the public ancestors."""

    @property
    def params(self) -> AdapterParams:
        """Its shape."""

    def fuse(
        self, states: States, weights: Sequence[float] | None = None, bias: Sequence[float] | None = None
    ) -> Fused:
        """Reference tokens of pictures."""

    def kv(self, block: BlockId, tokens: Tensor) -> BlockKV:
        """Keys and values of reference tokens in one block."""


class KeyValueMaps(nn.Module):
    """Key and value maps of one kind of rows in one block; the value map starts at zero, so nothing is added."""

    def __init__(self, in_width: int, out_width: int, *, bias: bool = False) -> None:
        super().__init__()
        self.to_k = nn.Linear(in_width, out_width, bias=bias)
        self.to_v = nn.Linear(in_width, out_width, bias=bias)
        nn.init.zeros_(self.to_v.weight)
        if bias:
            nn.init.zeros_(self.to_v.bias)

    def pair(self, tokens: Tensor, heads: int, norm: str) -> KeyValue:
        """(keys, values) of tokens [b m c], each [b heads m d]."""
        tokens = tokens.to(self.to_k.weight)
        k, v = (rearrange(to(tokens), "b m (heads d) -> b heads m d", heads=heads) for to in (self.to_k, self.to_v))
        return (
            k if norm == "none" else rms_norm(k, k.shape[-1:], eps=NORM_EPSILON),
            rms_norm(v, v.shape[-1:], eps=NORM_EPSILON) if norm == "both" else v,
        )


class Adapter(nn.Module):
    """DynaIP's adapter as reconstructed; untrained, it changes no bit of the model."""

    def __init__(self, params: AdapterParams) -> None:
        super().__init__()
        self.params = params
        self.heads, width = find_mmdit(params.family).heads, find_mmdit(params.family).width
        self.fusion = Fusion(params.levels, params.expert, params.router_width)
        self.blocks = nn.ModuleDict()
        for block in params.block_ids:
            kinds = ("image", "text") if params.text_kv and block.stream == "double" else ("image",)
            maps = {kind: KeyValueMaps(params.token_width, width) for kind in kinds}
            self.blocks[module_name(block)] = nn.ModuleDict(maps)

    def fuse(
        self, states: States, weights: Sequence[float] | None = None, bias: Sequence[float] | None = None
    ) -> Fused:
        """Reference tokens [b m c] of pictures; raises BadModel for states of another vision model.

        states   hidden states [b t c] of the CLIP vision model by number, all of them or those of `params.levels`
        weights  a user's shares of the levels instead of the router's
        bias     beta of softmax(log w + beta), as `granularity_bias` gives it
        """
        check_states(states, self.params)
        like = next(self.fusion.parameters())
        return self.fusion({level: states[level].to(like) for level in self.params.levels}, weights, bias)

    def kv(self, block: BlockId, tokens: Tensor) -> BlockKV:
        """Keys and values of tokens [b m c] in a block; raises BadModel for a block that the adapter lacks."""
        maps = block_maps(self.blocks, block)
        pairs = {kind: each.pair(tokens, self.heads, self.params.norm) for kind, each in maps.items()}
        return BlockKV(pairs["image"], pairs.get("text", pairs["image"]))


def module_name(block: BlockId) -> str:
    """A block's name in the adapter's parameters."""
    return f"{block.stream}_{block.index}"


def block_maps(blocks: nn.ModuleDict, block: BlockId) -> dict[str, KeyValueMaps]:
    """The maps of one block by kind of rows, "image" and "text"; raises BadModel."""
    if module_name(block) not in blocks:
        raise BadModel(
            f"block {block} came", f"one of the adapter's {len(blocks)} blocks was expected", "choose among those"
        )
    kinds = cast("nn.ModuleDict", blocks[module_name(block)])
    return {kind: cast("KeyValueMaps", maps) for kind, maps in kinds.items()}


def check_states(states: States, params: AdapterParams) -> None:
    """Nothing, or BadModel unless the states are those of the vision model that the adapter was made for."""
    do = "load the CLIP vision model that the adapter names"
    if not isinstance(states, Mapping) and len(states) != params.vision_layers + 1:
        raise BadModel(
            f"the vision model has {len(states) - 1} layers", f"{params.vision_layers} were expected by the adapter", do
        )
    for level in params.levels:
        if isinstance(states, Mapping) and level not in states:
            raise BadModel(f"hidden states {sorted(states)} came", f"number {level} was expected as well", do)
        if states[level].ndim != 3 or states[level].shape[-1] != params.vision_width:
            raise BadModel(
                f"the vision model's hidden states have the shape {tuple(states[level].shape)}",
                f"[pictures tokens {params.vision_width}] was expected by the adapter",
                do,
            )
