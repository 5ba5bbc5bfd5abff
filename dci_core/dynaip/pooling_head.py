"""SigLIP's attention-pooling head: from its vision tower's last states to the vector that InstantX's adapter reads.

Hosts load SigLIP towers without this head, so an adapter that needs it carries it in its own file.

Shapes: b pictures, t tokens of the vision model, c its width.
Source: Zhai et al., ICCV 2023 (arXiv 2303.15343): SigLIP pools by the attention head of Zhai et al., CVPR 2022 (arXiv
2106.04560), one learned probe over all tokens and a residual MLP behind it; sizes of so400m/14 384.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import BadAdapter

HEAD_PREFIX = "vision_head."
ADD_HEAD = "python -m dci_core adapter-convert --in ADAPTER --vision SIGLIP --out FILE"
HEADS = 16  # of so400m; base has 12, and no public adapter reads it
NORM_EPSILON = 1e-6


class PoolingHead(nn.Module):
    """One pooled vector of all tokens of a picture; parameters have the names that SigLIP files give them."""

    def __init__(self, width: int, inner_width: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, width))
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.layernorm = nn.LayerNorm(width, eps=NORM_EPSILON)
        maps = OrderedDict(fc1=nn.Linear(width, inner_width), act=nn.GELU("tanh"), fc2=nn.Linear(inner_width, width))
        self.mlp = nn.Sequential(maps)

    def forward(self, tokens: Tensor) -> Tensor:
        """The pooled vector [b c] of the tower's last states [b t c], behind its last norm."""
        tokens = tokens.to(self.probe)
        probe = self.probe.expand(len(tokens), -1, -1)  # [b 1 c]
        seen, _ = self.attention(probe, tokens, tokens, need_weights=False)  # [b 1 c]
        return (seen + self.mlp(self.layernorm(seen)))[:, 0]  # [b c]


def head_of(tensors: Mapping[str, Tensor]) -> PoolingHead:
    """The head on these tensors, by its parameters' names; raises ValueError where one is missing or misshapen."""
    try:
        width, inner_width = tensors["probe"].shape[-1], tensors["mlp.fc1.weight"].shape[0]
        if width % HEADS:
            raise ValueError(f"{width} columns for {HEADS} heads")
        with torch.device("meta"):
            head = PoolingHead(width, inner_width)
        head.load_state_dict(tensors, strict=True, assign=True)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError("parts are missing or have other shapes") from error
    return head


def read_head(path: Path) -> dict[str, Tensor]:
    """The pooling head's tensors in fp32 by parameter name; nothing else of the vision model's file is loaded.

    path  safetensors with keys such as `vision_model.head.probe`, under any prefix

    Raises BadAdapter for another file, and for one whose head is missing, incomplete or misshapen.
    """
    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
            prefix = next((key.removesuffix("probe") for key in keys if f".{key}".endswith(".head.probe")), None)
            own = [key for key in keys if prefix and key.startswith(prefix)]
            tensors = {key.removeprefix(prefix or ""): file.get_tensor(key).float() for key in own}
    except (OSError, SafetensorError) as error:
        what = "is damaged or no safetensors file" if path.is_file() else "could not be read"
        raise _no_head(f'"{path.name}" {what}') from error
    if not tensors:
        raise _no_head(f'"{path.name}" holds no pooling head')
    try:
        head_of(tensors)
    except ValueError as error:
        raise _no_head(f'the pooling head in "{path.name}" lacks parts or has another form') from error
    return tensors


def _no_head(what: str) -> BadAdapter:
    return BadAdapter(
        what,
        "a SigLIP vision model with its pooling head, as safetensors, was expected",
        "give sigclip_vision_patch14_384.safetensors, or that of google/siglip-so400m-patch14-384",
    )
