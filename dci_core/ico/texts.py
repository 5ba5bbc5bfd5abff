"""The texts of one training: the concept's pass through the encoder at every step, all others were encoded once."""

from __future__ import annotations

import torch

from ..devices import moved
from ..model import Model, Text
from ..text.captions import encode_captions
from .data import TrainingData
from .draws import Draw
from .state import TrainState, lay_out_all, possible_captions


class TrainingTexts:
    """Layouts of all captions, and the encoded captions of the prior.

    choices  number of captions of each reference picture
    """

    def __init__(self, model: Model, data: TrainingData, state: TrainState) -> None:
        self._model, self._learned, self._device = model, state.learned.text, state.learned.deltas.device
        captions = possible_captions(data, state.settings)
        layouts = {c: lay_out_all(model, c, state.noun, state.settings) for each in captions for c in each}
        self._layouts = [[layouts[c] for c in each] for each in captions]
        self.choices = [len(each) for each in captions]
        if state.settings.prior == "teacher":
            self._keep([[c.with_noun(state.noun) for c in each] for each in captions])
        elif state.settings.prior == "pictures":
            assert data.class_latents is not None  # begin_training has checked
            own = data.class_captions or [None] * len(data.class_latents)
            self._keep([[caption or state.noun] for caption in own])

    def concept(self, draw: Draw) -> Text:
        """The concept's text with its gradient, one row for each drawn picture."""
        layouts = [self._layouts[i][c] for i, c in draw.places]
        return text_on(self._model.encode(*self._learned.rows(draw.images.tolist(), layouts)), self._device)

    def nouns(self, draw: Draw) -> Text:
        """The drawn pictures' captions with the noun alone; no gradient."""
        return rows_of(self._kept, [self._rows[i][c] for i, c in draw.places])

    def classes(self, draw: Draw) -> Text:
        """The drawn class pictures' captions; no gradient."""
        return rows_of(self._kept, [self._rows[i][0] for i in draw.images.tolist()])

    def _keep(self, captions: list[list[str]]) -> None:
        different = list(dict.fromkeys(c for each in captions for c in each))
        self._kept = text_on(encode_captions(self._model, different), self._device)
        self._rows = [[different.index(c) for c in each] for each in captions]


def rows_of(text: Text, rows: list[int]) -> Text:
    """The chosen rows; other ones at every step, so that indices on the device would have to wait for a copy."""
    return text.chosen(rows, lambda value: torch.stack([value[row] for row in rows]))


def text_on(text: Text, device: torch.device) -> Text:
    """The text where the U-Net reads it, wherever the text encoder is."""
    return Text(moved(text.hidden, device), None if text.pooled is None else moved(text.pooled, device), text.lengths)
