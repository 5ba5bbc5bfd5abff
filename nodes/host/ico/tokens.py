"""One tokenizer of the host and the table behind it, as the core's `TokenEncoder`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....dci_core.devices import sent
from ....dci_core.errors import PromptTooLong
from ..concept.triggers import words_of

MOST_SLOTS = 512  # where a tokenizer knows no limit; rows behind the last word are cut off before they are computed


@dataclass(frozen=True)
class HostTokens:
    """One text encoder's vocabulary and tables, or ids that the model itself reads.

    words     the host's tokenizer
    network   the host's text encoder; None where the model reads the ids
    reserved  ids that stand for modifier tokens there
    around    what is written before and behind every text
    """

    words: Any
    network: Any
    reserved: Sequence[int] = ()
    around: tuple[str, str] = ("", "")

    @property
    def width(self) -> int:
        """Channels of a token vector; 1 where ids are all there is."""
        return 1 if self.network is None else int(self.words.embedding_size)

    @property
    def begin(self) -> int:
        """Number of marks before the first word, and of what is written there."""
        return int(self.words.tokens_start) + len(self.tokenize(self.around[0]))

    @property
    def behind(self) -> int:
        """Number of marks behind the last word, and of what is written there, padding left out."""
        return int(self.words.end_token is not None) + len(self.tokenize(self.around[1]))

    @property
    def length(self) -> int:
        """Slots of one pass: as many as the tokenizer fills, where it fills any."""
        least = int(self.words.min_length or 0)
        return min(int(self.words.max_length), least if least > 1 else MOST_SLOTS)

    def tokenize(self, text: str) -> list[int]:
        """Ids of the words; a trigger has none."""
        return [int(i) for i in words_of(getattr(self.words.tokenizer, "plain", self.words.tokenizer), text)]

    def embed(self, ids: Tensor) -> Tensor:
        """Rows of the token table, [...] -> [... c]; the ids themselves where there is no table."""
        if self.network is None:
            return ids.float()[..., None]
        table = self.network.transformer.get_input_embeddings()
        return table(sent(ids, device_of(self.network)), out_dtype=torch.float32)

    def frame(self, ids: Sequence[int]) -> Tensor:
        """[length] ids with marks and padding as the host sets them; raises PromptTooLong."""
        head, tail = map(self.tokenize, self.around)
        before = [*([self.words.start_token] if self.words.tokens_start else []), *head]
        after = [*tail, *([] if self.words.end_token is None else [self.words.end_token])]
        room = self.length - len(before) - len(after)
        if len(ids) > room:
            raise PromptTooLong(f"the text has {len(ids)} tokens", f"at most {room} fit", "shorten the captions")
        framed = [*before, *ids, *after]
        return torch.tensor(framed + [self.words.pad_token] * (self.length - len(framed)))

    def positions(self) -> Tensor:
        """The position table, [length c]; of zeros where positions are turned or relative, not added."""
        inside = getattr(getattr(self.network, "transformer", None), "text_model", None)
        if inside is None:
            device = None if self.network is None else device_of(self.network)
            return torch.zeros(self.length, self.width, device=device)
        return inside.embeddings.position_embedding.weight.float()  # type: ignore[no-any-return]


def device_of(network: Any) -> torch.device:
    """Where a text encoder's token table is."""
    found: torch.device = network.transformer.get_input_embeddings().weight.device
    return found
