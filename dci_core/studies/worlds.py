"""The small worlds as studies use them: a model that concepts are learned on, and the codec beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from ..concept.apply import Patchable
from ..flux.transformer import MMDiT
from ..tiny.codec import Codec
from ..tiny.defaults import FLOW
from ..tiny.flow.concept_model import TinyFlowModel
from ..tiny.flow.model import TINY_FLOW, FlowModel
from ..tiny.model import TinyModel, World, load_part, load_tiny_world
from ..tiny.text import TextEncoder, TextParams
from ..tiny.tokenizer import load_tokenizer

PARTS = {"unet": ("text", "unet", "codec"), FLOW: ("text", "mmdit", "codec")}  # weights that a concept depends on


class SmallWorld(Protocol):
    """What a study needs of either."""

    @property
    def model(self) -> Patchable:
        """Text encoder and network."""

    @property
    def codec(self) -> Codec:
        """Pictures to latents and back, on the CPU."""


@dataclass(frozen=True)
class FlowConcepts:
    """The small flow world, with concepts."""

    model: TinyFlowModel
    codec: Codec


def load_world(kind: str, folder: Path, device: torch.device) -> SmallWorld:
    """The world of that kind, its model on the device, its codec on the CPU."""
    if kind == FLOW:
        text, mmdit, codec = TextEncoder(TextParams(load_tokenizer().get_vocab_size())), MMDiT(TINY_FLOW), Codec()
        for name, part in zip(PARTS[FLOW], (text, mmdit, codec), strict=True):
            load_part(name, part, folder)
        return FlowConcepts(TinyFlowModel(FlowModel(text.to(device), mmdit.to(device))), codec)
    world = load_tiny_world(folder)
    return World(TinyModel(world.model.text.to(device), world.model.unet.to(device)), world.codec)
