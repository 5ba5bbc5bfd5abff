"""Image prompt adapters: where their files lie, and one loaded into the host's memory management."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...dci_core.errors import BadModel
from ...dci_core.image_prompt.decoupled import BlockKV, SubjectKV
from ...dci_core.image_prompt.families import MmditFamily
from ...dci_core.image_prompt.joint import BlockId

FOLDER = "dynaip"


@dataclass(frozen=True, eq=False)
class HostAdapter:
    """An adapter whose weights the host moves between its devices (what travels in our adapter socket).

    core  the core's adapter: `fuse` makes tokens of vision states, `kv` keys and values of tokens
    """

    name: str
    core: Any

    @property
    def place(self) -> str:
        """ "attention" or "stream": where its result is added."""
        return str(self.core.params.place)

    @property
    def blocks(self) -> frozenset[BlockId]:
        """Blocks that it has keys and values for."""
        return frozenset(self.core.params.blocks)

    @cached_property
    def patcher(self) -> Any:
        """What the host moves."""
        from comfy.model_management import get_torch_device
        from comfy.model_patcher import ModelPatcher

        return ModelPatcher(self.core, load_device=get_torch_device(), offload_device=torch.device("cpu"))

    def check_family(self, family: MmditFamily) -> None:
        """Raises BadModel where the adapter was made for another family."""
        if self.core.params.family != family.name:
            raise BadModel(
                f'the adapter "{self.name}" is made for {self.core.params.family}, the model is {family.name}',
                "one family is expected for both",
                "load the adapter of this model, or the model of this adapter",
            )

    def loaded(self) -> torch.device:
        """Brings the weights to the host's device, which it gives back."""
        from comfy.model_management import load_models_gpu

        load_models_gpu([self.patcher], force_full_load=True)
        return torch.device(self.patcher.load_device)

    def keys_and_values(self, tokens: Tensor, device: torch.device, dtype: torch.dtype) -> SubjectKV:
        """Keys and values of tokens [1 m c] in every block, as a model on that device in that precision reads them."""
        home = self.loaded()
        with torch.no_grad():
            rows = tokens.to(home, next(self.core.parameters()).dtype)
            made = {block: self.core.kv(block, rows) for block in sorted(self.blocks)}
        return {block: moved(kv, device, dtype) for block, kv in made.items()}


def moved(kv: BlockKV, device: torch.device, dtype: torch.dtype) -> BlockKV:
    """Keys and values on a device in a precision."""
    image, text = (pair and (pair[0].to(device, dtype), pair[1].to(device, dtype)) for pair in (kv.image, kv.text))
    return BlockKV(image, text)
