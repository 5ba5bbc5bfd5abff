"""Folders with encoders as `transformers` saves them: what a folder holds, found out before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadModel

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Kind:
    """A kind of encoder: what people call it, and the classes of `transformers` by `model_type` in config.json."""

    name: str
    classes: Mapping[str, str]


CLIP = Kind("CLIP", {"clip": "CLIPModel"})
DINO = Kind("DINO", {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel", "vit": "ViTModel"})


def class_name(folder: Path, kind: Kind) -> str:
    """The class in `transformers` of the folder's model; raises BadModel where it is no such folder."""
    wanted = f"a folder with config.json and model.safetensors of a {kind.name} model is expected"
    if not folder.is_dir():
        raise BadModel(f'there is no model folder "{folder}"', wanted, "name one on this machine; none is downloaded")
    came = str(read_config(folder, kind).get("model_type") or "")
    if came not in kind.classes:
        raise BadModel(
            f'the folder "{folder.name}" holds {f"a model of the type {came}" if came else "no known model"}',
            f"a {kind.name} model (model_type {' or '.join(kind.classes)}) is expected",
            "name another folder",
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise BadModel(
            f'the folder "{folder.name}" holds no safetensors weights', wanted, "put model.safetensors into it"
        )
    return kind.classes[came]


def read_config(folder: Path, kind: Kind) -> dict[str, Any]:
    """The folder's config.json; raises BadModel."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(
            f'the folder "{folder.name}" holds no readable {CONFIG}',
            f"the folder of a {kind.name} model as transformers saves it is expected",
            "name another folder",
        ) from error
    return config if isinstance(config, dict) else {}


def folders_in(root: Path, kind: Kind) -> list[Path]:
    """Folders of that kind in a folder or one below it, such as `clip-vit-base-patch32` or `openai/clip-...`."""
    found = sorted(path.parent for pattern in ("*", "*/*") for path in root.glob(f"{pattern}/{CONFIG}"))
    return [folder for folder in found if is_kind(folder, kind)]


def is_kind(folder: Path, kind: Kind) -> bool:
    """Whether the folder can be loaded as that kind, as far as can be seen from outside."""
    try:
        return bool(class_name(folder, kind))
    except BadModel:
        return False
