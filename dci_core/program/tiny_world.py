"""The small worlds as the program uses them: their weights, loaded when first needed, and the words they know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..concept.apply import Patchable
from ..concept.base_hash import hash_base
from ..concept.file import load_concept
from ..concept.learned import Concept, check_trigger
from ..errors import BadModel, BadSettings
from ..families.family import Family
from ..families.table import find_family
from ..flux.transformer import MMDiT
from ..tiny.codec import Codec
from ..tiny.defaults import FLOW, UNET
from ..tiny.flow.concept_model import TinyFlowModel
from ..tiny.flow.model import TINY_FLOW, FlowModel
from ..tiny.judge import Judge
from ..tiny.model import WEIGHTS, TinyModel, World, load_part
from ..tiny.text import TextEncoder, TextParams
from ..tiny.tokenizer import load_tokenizer
from ..tiny.unet import UNet
from ..tiny.world.words import NOUNS, RARE_WORDS, every_word

ENCODER = "clip_l"
FAMILY = {UNET: "tiny", FLOW: "tiny_flow"}


class SmallModel(Patchable, Protocol):
    """The model of either small world."""

    def kv_weights(self) -> Mapping[str, Tensor]:
        """The weights that a concept changes, by key."""


@dataclass(frozen=True)
class TinyWorld:
    """A small world's parts; each is read from the folder when it is first asked for. Raises BadModel.

    kind  "unet", or "flow" for the small MM-DiT
    """

    folder: Path = WEIGHTS
    kind: str = UNET

    @property
    def family(self) -> Family:
        """The model's row in the family table."""
        return find_family(FAMILY[self.kind])

    @property
    def model(self) -> SmallModel:
        """Text encoder and network, no concept applied."""
        return self.flow if self.kind == FLOW else self.unet

    @cached_property
    def unet(self) -> TinyModel:
        """Text encoder and U-Net."""
        unet = UNet()
        self._fill("unet", unet)
        return TinyModel(self._text, unet)

    @cached_property
    def flow(self) -> TinyFlowModel:
        """Text encoder and MM-DiT."""
        mmdit = MMDiT(TINY_FLOW)
        self._fill("mmdit", mmdit)
        return TinyFlowModel(FlowModel(self._text, mmdit))

    @cached_property
    def codec(self) -> Codec:
        """Pictures to latents and back."""
        codec = Codec()
        self._fill("codec", codec)
        return codec

    @cached_property
    def judge(self) -> Judge:
        """What says how like a picture is, and what is in it."""
        judge = Judge()
        self._fill("judge", judge)
        return judge

    @property
    def world(self) -> World:
        """U-Net model and codec."""
        return World(self.unet, self.codec)

    @cached_property
    def base_hash(self) -> str:
        """Fingerprint of the model's own weights."""
        return hash_base(self.model.kv_weights(), self.family.learned_layers)

    def load_concept(self, path: Path) -> Concept:
        """A concept for this model; raises BadConcept."""
        model = self.model
        widths = {name: encoder.width for name, encoder in model.encoders.items()}
        return load_concept(
            path, family=model.family, widths=model.kv_shapes(), token_widths=widths, base_hash=self.base_hash
        )

    @cached_property
    def _text(self) -> TextEncoder:
        text = TextEncoder(TextParams(load_tokenizer().get_vocab_size()))
        self._fill("text", text)
        return text

    def _fill(self, name: str, part: torch.nn.Module) -> None:
        try:
            load_part(name, part, self.folder)
        except (OSError, SafetensorError, RuntimeError) as error:
            is_missing = not (self.folder / f"{name}.safetensors").exists()
            raise BadModel(
                f'the small world\'s "{name}.safetensors" {"is missing" if is_missing else "cannot be used"}',
                "the weights that ship with the project were expected",
                "install the project again, or name their folder with --weights",
            ) from error


def rare_ids() -> dict[str, list[int]]:
    """Per text encoder, the entries that modifier tokens start from: the world's meaningless words."""
    tokenizer = load_tokenizer()
    return {ENCODER: [tokenizer.encode(word).ids[0] for word in RARE_WORDS]}


def known_noun(word: str, what: str = "noun") -> str:
    """The noun in lower case; raises BadSettings where the world has never seen it."""
    noun = word.strip().lower()
    if noun not in NOUNS:
        raise BadSettings(
            f'the {what} is "{word}"',
            f"a noun that the small world knows was expected: {', '.join(NOUNS)}",
            "choose one",
        )
    return noun


def free_trigger(word: str) -> str:
    """The trigger in lower case; raises BadSettings for an ordinary word of the world, or more than one word."""
    trigger = word.lower()
    check_trigger(trigger)
    if trigger in every_word() and trigger not in RARE_WORDS:
        raise BadSettings(f'the trigger is "{word}"', "a word without a meaning was expected", "choose one of your own")
    return trigger
