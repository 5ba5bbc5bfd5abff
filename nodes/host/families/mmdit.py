"""Which MM-DiT family a loaded model belongs to, and what its blocks are called in the host."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ....dci_core.attention.joint import BlockId
from ....dci_core.errors import BadModel
from ....dci_core.families.mmdit import FAMILIES, MmditFamily
from .blocks import has_second_attention, joint_blocks


@dataclass(frozen=True)
class HostKind:
    """One of the host's network classes.

    sizes  the attributes that hold width and number of heads; the latter of the network or of its first block
    """

    module: str
    name: str
    sizes: tuple[str, str] = ("hidden_size", "num_heads")

    def is_kind_of(self, network: Any) -> bool:
        """Whether a network is of this class."""
        return isinstance(network, getattr(import_module(self.module), self.name))

    def measure(self, network: Any) -> tuple[int, int, dict[str, int]]:
        """(width, heads, number of blocks of each kind)."""
        width, heads = self.sizes
        blocks = joint_blocks(network)
        first = next(iter(blocks.values()))
        counts = dict(Counter(block.stream for block in blocks))
        return int(getattr(network, width)), int(getattr(network, heads, None) or getattr(first, heads)), counts


PATCH_SIDES = ("patch_spatial", "patch_size", "patch")  # where networks keep the latent cells to a token's side
KINDS = (
    HostKind("comfy.ldm.flux.model", "Flux"),
    HostKind("comfy.ldm.modules.diffusionmodules.mmdit", "MMDiT"),
    HostKind("comfy.ldm.qwen_image.model", "QwenImageTransformer2DModel", ("inner_dim", "num_attention_heads")),
)


def kind_of(network: Any) -> HostKind:
    """The class of a network; raises BadModel for a U-Net and for other transformers."""
    for kind in KINDS:
        if kind.is_kind_of(network):
            return kind
    raise BadModel(
        f"the model is a {type(network).__name__}",
        "an MM-DiT (Flux, SD3, SD3.5, Qwen-Image, the tiny flow model) is expected",
        "load one of those; U-Nets and other transformers have no joint attention of this form",
    )


def mmdit_of(model: Any) -> MmditFamily:
    """The family of a MODEL, told by its class, width, heads and blocks; raises BadModel."""
    network = model.model.diffusion_model
    kind = kind_of(network)
    width, heads, counts = kind.measure(network)
    found = [f for f in FAMILIES.values() if (f.width, f.heads, dict(f.blocks)) == (width, heads, counts)]
    if not found:
        blocks = " and ".join(f"{count} {stream}" for stream, count in counts.items())
        raise BadModel(
            f"the model is a {kind.name} of width {width} with {heads} heads and {blocks} blocks",
            f"the sizes of one of {', '.join(FAMILIES)} are expected",
            "load a checkpoint of one of these families",
        )
    return found[-1] if has_second_attention(network) else found[0]


def image_first_blocks(model: Any) -> frozenset[BlockId]:
    """Blocks that put image rows before text rows; older hosts have a switch for it."""
    blocks = joint_blocks(model.diffusion_model)
    return frozenset(block for block, module in blocks.items() if getattr(module, "flipped_img_txt", False))


def token_grid(model: Any, height: int, width: int) -> tuple[int, int]:
    """(h, w) of the image tokens of a latent of this size, padded to whole tokens as the host does."""
    network = model.diffusion_model
    side = next(int(getattr(network, name)) for name in PATCH_SIDES if getattr(network, name, None))
    return -(-height // side), -(-width // side)
