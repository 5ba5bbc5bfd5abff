"""MM-DiT families as rows of data: their blocks, widths and token grids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..attention.joint import BlockId
from ..errors import BadModel


@dataclass(frozen=True)
class MmditFamily:
    """One kind of MM-DiT model.

    width       of a token row
    heads       of every joint attention; width = heads * head_dim
    blocks      number of blocks of each kind: "double" (own weights per stream) and "single" (shared weights)
    patch       pixels of the picture per image token, each way
    text_first  the order of the joint sequence in this family's reference code
    """

    name: str
    width: int
    heads: int
    blocks: Mapping[str, int]
    patch: int = 16
    text_first: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def block_ids(self) -> tuple[BlockId, ...]:
        """Every block, in the order of the forward pass."""
        return tuple(BlockId(stream, index) for stream, count in self.blocks.items() for index in range(count))


FAMILIES = {
    family.name: family
    for family in (
        MmditFamily("flux", 3072, 24, {"double": 19, "single": 38}),
        MmditFamily("sd3", 1536, 24, {"double": 24}),
        MmditFamily("sd35_medium", 1536, 24, {"double": 24}),
        MmditFamily("sd35_large", 2432, 38, {"double": 38}),
        MmditFamily("qwen_image", 3072, 24, {"double": 60}),
        MmditFamily("tiny_flow", 192, 6, {"double": 2, "single": 4}),
    )
}


def find_mmdit(name: str) -> MmditFamily:
    """The family of that name; raises BadModel."""
    if name not in FAMILIES:
        raise BadModel(
            f"the model calls its family {name!r}",
            f"an MM-DiT ({', '.join(FAMILIES)}) was expected",
            "load one of these; a U-Net has no joint attention that an image prompt could be read beside",
        )
    return FAMILIES[name]
