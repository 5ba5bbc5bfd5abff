"""The small world's model: text encoder and U-Net behind the core's two seams, and the codec beside them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..attention.call import AttentionRule
from ..attention.layers import LayerId
from ..devices import moved, sent
from ..errors import BadModel
from ..model import Text
from ..noise.schedule import sd_schedule
from .codec import Codec
from .text import TextEncoder, TextParams
from .tokenizer import LENGTH, frame, load_tokenizer, marks
from .unet import UNet

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class TinyTokens:
    """The tiny world's vocabulary, with the triggers of the concepts in place.

    learnt  per trigger word its modifier token vectors, [T c]
    """

    text: TextEncoder
    learnt: Mapping[str, Tensor] = field(default_factory=dict)
    length: int = LENGTH
    begin: int = 1
    reserved: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Channels of a token vector."""
        return self.text.params.width

    @cached_property
    def _first_ids(self) -> dict[str, int]:
        """The id of each trigger's first vector; ids past the table's end are learnt vectors."""
        first, ids = self.text.params.entries, {}
        for trigger, vectors in self.learnt.items():
            ids[trigger], first = first, first + len(vectors)
        return ids

    def tokenize(self, text: str) -> list[int]:
        """Ids of the words; a trigger gives one id per modifier token."""
        tokenizer, ids = load_tokenizer(), list[int]()
        for word in text.split():
            bare = word.strip(".,;!?\"'").lower()
            if bare in self._first_ids:
                start, end = word.lower().index(bare), word.lower().index(bare) + len(bare)
                ids += tokenizer.encode(word[:start]).ids
                ids += range(self._first_ids[bare], self._first_ids[bare] + len(self.learnt[bare]))
                ids += tokenizer.encode(word[end:]).ids
            else:
                ids += tokenizer.encode(word).ids
        return ids

    def embed(self, ids: Tensor) -> Tensor:
        """Token vectors without positions, [...] -> [... c]."""
        table = self.text.embeddings.token_embedding.weight
        if self.learnt:
            table = torch.cat((table, *(v.to(table) for v in self.learnt.values())))
        return table[sent(ids, table.device)]

    def frame(self, ids: Sequence[int]) -> Tensor:
        """[77] ids with begin mark, end mark, and end marks as padding."""
        return frame(ids, *marks(), self.length)

    def positions(self) -> Tensor:
        """The position table, [77 c]."""
        return self.text.embeddings.position_embedding.weight


@dataclass(frozen=True)
class TinyModel:
    """The tiny world's text encoder and U-Net as a `Model`."""

    text: TextEncoder
    unet: UNet
    learnt: Mapping[str, Tensor] = field(default_factory=dict)
    family: str = "tiny"

    @classmethod
    def random(cls, seed: int = 0) -> TinyModel:
        """A model of the right shapes with random weights, for tests."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            text, unet = TextEncoder(TextParams(load_tokenizer().get_vocab_size())), UNet()
        return cls(text.eval().requires_grad_(False), unet.eval().requires_grad_(False))

    @property
    def layers(self) -> list[LayerId]:
        """Every cross-attention, in the order of the forward pass."""
        return list(self.unet.cross_attentions())

    @cached_property
    def encoders(self) -> dict[str, TinyTokens]:
        """The one text encoder's vocabulary, under the name it has in SD 1.x."""
        return {"clip_l": TinyTokens(self.text, self.learnt)}

    def kv_shapes(self) -> dict[LayerId, tuple[int, int]]:
        """Per cross-attention (inner width, context width) of its key and value maps."""
        return {layer: (a.to_k.out_features, a.to_k.in_features) for layer, a in self.unet.cross_attentions().items()}

    def kv_weights(self) -> dict[str, Tensor]:
        """The U-Net's own weights by LDM key, those that a concept changes among them."""
        return dict(self.unet.state_dict())

    def encode(self, embeds: Mapping[str, Tensor], ends: Mapping[str, Tensor]) -> Text:
        """Hidden states of framed token rows; pooled is the end mark's."""
        hidden = self.text(embeds["clip_l"])
        return Text(hidden, torch.stack([row[end] for row, end in zip(hidden, ends["clip_l"].tolist(), strict=True)]))

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """x0 from x = x0 + sigma * noise; the timestep is the training step nearest in log sigma, as in the host."""
        scale = sigma.to(x.dtype)[:, None, None, None]
        noise = self.unet(x / (1 + scale**2).sqrt(), sd_schedule().timestep(sigma), moved(text.hidden, x.device), rule)
        return x - scale * noise

    def with_deltas(self, weights: Mapping[str, Tensor]) -> TinyModel:
        """A model whose U-Net has the deltas added; keys as in the U-Net's state dict, the rest is shared."""
        unet = copy.deepcopy(self.unet)
        own = dict(unet.named_parameters())
        unknown = [key for key in weights if key not in own]
        if unknown:
            raise BadModel(f"weight {unknown[0]!r}", "the tiny U-Net has no such weight", "use a concept made for it")
        with torch.no_grad():
            for key, delta in weights.items():
                own[key].add_(delta.to(own[key]))
        return TinyModel(self.text, unet, self.learnt, self.family)

    def with_tokens(self, trigger: str, vectors: Mapping[str, Tensor]) -> TinyModel:
        """A model that knows one more trigger word; vectors {"clip_l": [T c]}."""
        return TinyModel(self.text, self.unet, {**self.learnt, trigger.lower(): vectors["clip_l"]}, self.family)


@dataclass(frozen=True)
class World:
    """The model and the codec that ship with the project."""

    model: TinyModel
    codec: Codec


def load_part(name: str, part: torch.nn.Module, folder: Path = WEIGHTS) -> torch.nn.Module:
    """The module with the shipped weights of that name, in fp32, frozen."""
    part.load_state_dict({key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()})
    return part.eval().requires_grad_(False)


def load_tiny_world(folder: Path = WEIGHTS) -> World:
    """The small world with its trained weights."""
    text, unet, codec = TextEncoder(TextParams(load_tokenizer().get_vocab_size())), UNet(), Codec()
    load_part("text", text, folder), load_part("unet", unet, folder), load_part("codec", codec, folder)
    return World(TinyModel(text, unet), codec)
