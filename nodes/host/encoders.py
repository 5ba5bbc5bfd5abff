"""Encoders for scores: folders as `transformers` saves them in models/ico_scores and models/clip_vision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...dci_core.errors import BadModel
from ...dci_core.score.encoders import load_clip, load_dino
from ...dci_core.score.folders import Kind, folders_in
from ...dci_core.score.scores import Judges
from .folders import is_escape

FOLDER = "ico_scores"
PLACES = (FOLDER, "clip_vision")
NONE = "none"


def places() -> list[tuple[str, Path]]:
    """(name of the place, folder) wherever encoders may lie; models/ico_scores becomes known to the host."""
    import folder_paths

    own = str(Path(folder_paths.models_dir) / FOLDER)
    paths, suffixes = folder_paths.folder_names_and_paths.get(FOLDER, ([], set()))
    folder_paths.folder_names_and_paths[FOLDER] = ([*paths, *([] if own in paths else [own])], suffixes)
    return [(place, Path(root)) for place in PLACES for root in folder_paths.get_folder_paths(place)]


def encoder_names(kind: Kind) -> list[str]:
    """Folders of that kind that the host can see, as `ico_scores/dinov2-small`; `none` is last."""
    found = [
        f"{place}/{folder.relative_to(root).as_posix()}"
        for place, root in places()
        for folder in folders_in(root, kind)
    ]
    return [*dict.fromkeys(found), NONE]


def encoder_path(name: str) -> Path | None:
    """The folder of that name, None for `none`; raises BadModel."""
    if name == NONE:
        return None
    place, _, inside = name.partition("/")
    roots = [] if is_escape(inside) else [root for known, root in places() if known == place]
    for root in roots:
        if (root / inside).is_dir():
            return root / inside
    raise BadModel(
        f'there is no model folder "{name}"',
        f"one in models/{FOLDER} is expected, with config.json and model.safetensors",
        "choose one from the list; none is downloaded",
    )


@contextmanager
def loaded_judges(clip_name: str, dino_name: str) -> Iterator[Judges]:
    """The encoders of these names on the host's device while this lasts; raises BadModel, BadSettings."""
    from comfy.model_management import get_torch_device, load_models_gpu
    from comfy.model_patcher import ModelPatcher
    from torch import device, nn

    clip, dino = encoder_path(clip_name), encoder_path(dino_name)
    judges = Judges(load_clip(clip) if clip else None, load_dino(dino) if dino else None)
    # In a module of its own: the patcher notes the device on it, which the library's models do not let it do.
    whole = nn.ModuleList([judge.model for judge in (judges.clip, judges.dino) if judge is not None])
    patcher = ModelPatcher(whole, load_device=get_torch_device(), offload_device=device("cpu"))
    load_models_gpu([patcher], force_full_load=True)
    try:
        yield judges
    finally:
        patcher.detach()
