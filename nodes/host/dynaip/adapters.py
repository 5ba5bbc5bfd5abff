"""An image prompt adapter in the host's memory management."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ....dci_core.attention.joint import BlockId
from ....dci_core.dynaip.adapter import ImagePromptAdapter
from ....dci_core.dynaip.adapter_file import check_family, check_vision
from ....dci_core.dynaip.decoupled import SubjectKV
from ....dci_core.dynaip.fusion import Fused
from ....dci_core.dynaip.pooling_head import ADD_HEAD
from ....dci_core.families.mmdit import MmditFamily
from .vision import Sight, sizes_of


@dataclass(frozen=True, eq=False)
class HostAdapter:
    """An adapter whose weights the host moves between its devices: what travels in our adapter socket."""

    name: str
    core: ImagePromptAdapter

    @property
    def place(self) -> str:
        """ "attention" or "stream": where its result is added."""
        return self.core.params.place

    @property
    def blocks(self) -> frozenset[BlockId]:
        """Blocks that it has keys and values for."""
        return frozenset(self.core.params.block_ids)

    @property
    def levels(self) -> tuple[int, ...]:
        """Layers of the vision model that it fuses; none where it reads one pooled vector."""
        return self.core.params.levels

    @cached_property
    def patcher(self) -> Any:
        """What the host moves."""
        from comfy.model_management import get_torch_device
        from comfy.model_patcher import ModelPatcher

        return ModelPatcher(self.core, load_device=get_torch_device(), offload_device=torch.device("cpu"))

    def check_family(self, family: MmditFamily) -> None:
        """Raises BadAdapter where the adapter was made for another family."""
        check_family(self.core.params, family.name, self.name)

    def check_vision(self, vision: Any) -> None:
        """Raises BadAdapter for a vision model of another width or depth than the adapter was made for."""
        check_vision(self.core.params, *sizes_of(vision, self.core.params.vision_output))

    def fuse(self, sight: Sight, weights: Sequence[float] | None, bias: Sequence[float] | None) -> Fused:
        """Reference tokens of what a vision model saw; raises BadModel, BadSettings."""
        home = self.loaded()
        outputs = [output.to(home) for output in sight.outputs(self.core.params.vision_output)]
        with torch.no_grad():
            return self.core.fuse(outputs, weights, bias)

    def keys_and_values(self, tokens: Tensor, device: torch.device, dtype: torch.dtype) -> SubjectKV:
        """Keys and values of tokens [1 m c] in every block, as a model on that device in that precision reads them."""
        rows = tokens.to(self.loaded())
        with torch.no_grad():
            return {block: self.core.kv(block, rows).to(device, dtype) for block in sorted(self.blocks)}

    def loaded(self) -> torch.device:
        """Brings the weights to the host's device, which it gives back."""
        from comfy.model_management import load_models_gpu

        load_models_gpu([self.patcher], force_full_load=True)
        return torch.device(self.patcher.load_device)

    def facts(self) -> str:
        """What the adapter is, for the user to read."""
        params = self.core.params
        streams = sorted({block.stream for block in self.blocks})
        counts = ", ".join(f"{sum(block.stream == each for block in self.blocks)} {each}" for each in streams)
        layers = f"layers {', '.join(map(str, self.levels))} of {params.vision_layers}"
        reads = layers if self.levels else f"the {params.reads}"
        lacks = f"\nlacks SigLIP's pooling head: {ADD_HEAD}" if params.vision_output == "pooled" else ""
        return (
            f'"{self.name}" for {params.family}: {counts} blocks, {params.tokens} tokens of each picture\n'
            f"reads {reads} of a vision model {params.vision_width} wide{lacks}"
        )
