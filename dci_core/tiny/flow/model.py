"""The tiny flow model: the small world's text encoder and the MM-DiT, with the seam for image prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...attention.joint import PLACES, BlockId, JointRule
from ...devices import sent
from ...errors import BadModel, BadSettings
from ...flux.blocks import Hook
from ...flux.layers import FluxParams
from ...flux.transformer import MMDiT
from ...model import Text
from ..codec import LATENT_CHANNELS, Codec
from ..model import WEIGHTS, load_part
from ..text import TextEncoder, TextParams
from ..tokenizer import frame, load_tokenizer, marks
from .vision import VisionTower

SLOTS = 32  # token rows of a prompt, marks and padding included: captions take 24 at most, two described objects 28

TINY_FLOW = FluxParams(
    channels=LATENT_CHANNELS,
    text_width=128,
    vector_width=128,
    width=192,
    heads=6,
    double_blocks=2,
    single_blocks=4,
    axes=(8, 12, 12),
    theta=100,  # small, for a grid of 8 a side
    guidance=False,
)


@dataclass(frozen=True)
class FlowModel:
    """Encodes prompts and predicts velocities."""

    text: TextEncoder
    mmdit: MMDiT
    family: str = "tiny_flow"

    @classmethod
    def random(cls, seed: int = 0) -> FlowModel:
        """A model of the right shapes with random weights, every block open, for tests."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            text, mmdit = TextEncoder(TextParams(load_tokenizer().get_vocab_size())), MMDiT(TINY_FLOW)
        return cls(text.eval().requires_grad_(False), mmdit.eval().requires_grad_(False))

    @property
    def blocks(self) -> list[BlockId]:
        """Every block, in the order of the forward pass."""
        return [block.block for block in (*self.mmdit.double_blocks, *self.mmdit.single_blocks)]

    def encode(self, prompts: Sequence[str]) -> Text:
        """Hidden states [b SLOTS c] and the end marks' states [b c]; raises PromptTooLong."""
        begin, end = marks()
        ids = torch.stack([frame(load_tokenizer().encode(prompt).ids, begin, end, SLOTS) for prompt in prompts])
        ends = (ids == end).int().argmax(dim=1).tolist()
        table = self.text.embeddings.token_embedding
        hidden = self.text(table(sent(ids, table.weight.device)))
        return Text(hidden, torch.stack([row[end] for row, end in zip(hidden, ends, strict=True)]))

    def velocity(
        self,
        x: Tensor,
        t: Tensor,
        text: Text,
        rule: JointRule | None = None,
        *,
        reads: Tensor | None = None,
        place: str = "attention",
    ) -> Tensor:
        """noise - x0 at x = (1 - t) x0 + t noise, [b c h w]; without a rule, the base model bit for bit.

        x      [b c h w]
        t      [b], 0 clean to 1 noise
        reads  [b], 1 where the row may read the reference, 0 for negative prompts; None: all read it
        place  "attention": the rule adds to the attention output before its projection;
               "stream": to the image stream after the block
        """
        if text.pooled is None:
            raise BadModel("the text has no pooled vector", "the tiny flow model needs one", "use its own encode")
        if place not in PLACES:
            raise BadSettings(f"the place is {place!r}", f"one of {', '.join(PLACES)} is expected", "choose one")
        hook = None if rule is None else Hook(rule, torch.ones(len(x)) if reads is None else reads, place)
        return self.mmdit(x, t, text.hidden, text.pooled, hook)


@dataclass(frozen=True)
class FlowWorld:
    """What ships: the model, the vision tower that reads references, and the codec."""

    model: FlowModel
    vision: VisionTower
    codec: Codec


def load_flow_world(folder: Path = WEIGHTS) -> FlowWorld:
    """The tiny flow world with its trained weights."""
    text, codec = TextEncoder(TextParams(load_tokenizer().get_vocab_size())), Codec()
    mmdit, vision = MMDiT(TINY_FLOW), VisionTower()
    for name, part in (("text", text), ("codec", codec), ("mmdit", mmdit), ("vision", vision)):
        load_part(name, part, folder)
    return FlowWorld(FlowModel(text, mmdit), vision, codec)
