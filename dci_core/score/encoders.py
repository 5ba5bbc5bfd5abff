"""Encoders from a user's folders: pictures and texts to unit vectors, prepared as the folder's own files say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import BadModel, PromptTooLong
from ..pretrained import first_line, library, load_whole, quiet, readable
from .folders import CLIP, DINO, Kind, class_name

NEEDED = "transformers", "scores"  # the library, and what needs it
BATCH = 16  # pictures or texts in one pass
Item = TypeVar("Item")
Tick = Callable[[int], object]  # told how many more are done; may raise to stop


@dataclass(frozen=True)
class ClipEncoder:
    """Pictures and texts in CLIP's common space, after both projections.

    model    transformers' CLIPModel
    prepare  the folder's image processor
    words    the folder's tokenizer
    name     of the folder
    """

    model: Any
    prepare: Any
    words: Any
    name: str

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors [b d] of RGB pictures; raises BadModel where processor and model do not fit."""
        pixels = prepared(self.prepare, images, self.model, self.name)
        with fitting(self.name):
            return unit(self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [b d] of texts; raises PromptTooLong."""
        most = int(self.model.config.text_config.max_position_embeddings)
        read = self.words(list(texts), padding=True, return_tensors="pt")
        for text, count in zip(texts, read["attention_mask"].sum(1).tolist(), strict=True):
            if count > most:
                raise PromptTooLong(
                    f'the prompt "{text[:40]}..." has {count - 2} tokens', f"at most {most - 2} fit", "shorten it"
                )
        inputs = {name: read[name].to(device_of(self.model)) for name in ("input_ids", "attention_mask")}
        return unit(self.model.text_projection(self.model.text_model(**inputs).pooler_output))


@dataclass(frozen=True)
class DinoEncoder:
    """Pictures by a DINO vision transformer: its class token after the last norm."""

    model: Any
    prepare: Any
    name: str

    @torch.no_grad()
    def pictures(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors [b d] of RGB pictures; raises BadModel where processor and model do not fit."""
        pixels = prepared(self.prepare, images, self.model, self.name)
        with fitting(self.name):
            return unit(self.model(pixel_values=pixels).last_hidden_state[:, 0])


def load_clip(folder: Path) -> ClipEncoder:
    """The CLIP model in a folder, on the CPU in single precision; raises BadModel."""
    model = load_model(folder, CLIP)
    words = load_part(folder, "AutoTokenizer", "its tokenizer's files (such as tokenizer.json) are expected beside it")
    return ClipEncoder(model, load_processor(folder), words, folder.name)


def load_dino(folder: Path) -> DinoEncoder:
    """The DINO model in a folder, on the CPU in single precision; raises BadModel."""
    return DinoEncoder(load_model(folder, DINO), load_processor(folder), folder.name)


def load_model(folder: Path, kind: Kind) -> Any:
    """The folder's model with every weight from its safetensors; raises BadModel."""
    name = class_name(folder, kind)
    options: dict[str, Any] = {"add_pooling_layer": False} if name == "ViTModel" else {}  # DINO has none
    return load_whole(library(*NEEDED), name, folder, **options).float()


def load_processor(folder: Path) -> Any:
    """What cuts, scales and normalises pictures for the folder's model; by Pillow, so that every machine agrees."""
    is_new = int(library(*NEEDED).__version__.partition(".")[0]) >= 5
    by_pillow: dict[str, Any] = {"backend": "pil"} if is_new else {"use_fast": False}
    return load_part(folder, "AutoImageProcessor", "its preprocessor_config.json is expected beside it", **by_pillow)


def load_part(folder: Path, loader: str, expected: str, **options: Any) -> Any:
    """What one of transformers' loaders makes of the folder, code in it never run; raises BadModel."""
    source = library(*NEEDED)
    with quiet(source), readable(folder, expected):
        load = getattr(source, loader).from_pretrained
        return load(str(folder), local_files_only=True, trust_remote_code=False, **options)


def embed(encode: Callable[[Sequence[Item]], Tensor], items: Sequence[Item], tick: Tick | None = None) -> Tensor:
    """Vectors [n d] of all items, a batch at a time, on the CPU."""
    found = []
    for start in range(0, len(items), BATCH):
        batch = items[start : start + BATCH]
        found.append(encode(batch).float().cpu())
        if tick is not None:
            tick(len(batch))
    return torch.cat(found)


def prepared(prepare: Any, images: Sequence[Image.Image], model: Any, name: str) -> Tensor:
    """Pixels [b 3 h w] as the model wants them, on its device; raises BadModel."""
    with fitting(name):
        return torch.as_tensor(prepare(images=list(images), return_tensors="pt")["pixel_values"]).to(device_of(model))


def unit(vectors: Tensor) -> Tensor:
    """Vectors [b d] of length one."""
    return normalize(vectors.float(), dim=-1)


def device_of(model: Any) -> torch.device:
    """Where the model's weights are."""
    return torch.device(next(model.parameters()).device)


@contextmanager
def fitting(name: str) -> Iterator[None]:
    """A picture of a size that the model does not take becomes one BadModel."""
    try:
        yield
    except ValueError as error:
        raise BadModel(
            f'the model in "{name}" does not take its pictures ({first_line(error)})',
            "a preprocessor_config.json that belongs to the model is expected",
            "put the model's own beside it",
        ) from error
