"""The node that loads a folder of pictures to train on."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..dci_core.pictures.reference import as_rgb, companions, open_image, picture_files
from ..dci_core.pictures.thumbnails import pixels_of
from ..dci_core.text.captions import with_place
from . import node_ui
from .fields import schema, text, widget
from .host import picture_folders
from .node_output import node_output


class ICOLoadPictures(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "concept",
            node_id="ICOLoadPictures",
            display_name="Load ICO Pictures",
            description="Loads a folder of pictures to train on, each at its own size, with the masks and captions "
            "that lie beside them.",
            search_aliases=["load images", "dataset", "folder", "captions", "training pictures"],
            inputs=[
                widget(
                    io.Combo,
                    "folder",
                    options=picture_folders.folder_names(),
                    tooltip="A folder in ComfyUI's input folder. cat.png may have cat.mask.png and cat.txt beside it.",
                ),
                text(
                    "noun",
                    optional=True,
                    tooltip="In captions without a place for the concept, this word becomes it. Empty: captions stay "
                    "as they are.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "pictures", display_name="pictures", is_output_list=True, tooltip="One by one, sorted by name."
                ),
                io.Mask.Output(
                    "masks",
                    display_name="masks",
                    is_output_list=True,
                    tooltip="White where the thing is; all white for pictures without a mask.",
                ),
                io.String.Output(
                    "captions",
                    display_name="captions",
                    is_output_list=True,
                    tooltip="One for each picture, empty for those without one.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: str = "") -> bool:
        return True  # a folder that is gone is told in one sentence when the node runs

    @classmethod
    def fingerprint_inputs(cls, folder: str = "", **inputs: Any) -> str:
        return picture_folders.stamp(folder)

    @classmethod
    def execute(cls, folder: str, noun: str = "") -> io.NodeOutput:
        files = picture_files(picture_folders.folder_path(folder), "put 4 to 20 pictures of one thing into it")
        pictures: list[Tensor] = []
        masks: list[Tensor] = []
        captions: list[str] = []
        drawn = 0
        for path in files:
            mask, caption = companions(path)
            pictures.append(pixels_of(as_rgb(open_image(path), path.name))[None])
            drawn += mask is not None
            masks.append(torch.ones(pictures[-1].shape[:3]) if mask is None else grey_of(as_rgb(mask, path.name)))
            captions.append(with_place(caption or "", noun.strip()))
        written = sum(bool(caption) for caption in captions)
        told = node_ui.said(f"{len(files)} pictures, {drawn} masks, {written} captions from input/{folder}")
        return node_output(pictures, masks, captions, ui=told)


def grey_of(mask: Any) -> Tensor:
    """A mask's picture as [1 h w] in 0..1."""
    return pixels_of(mask.convert("L"))[None]


NODES: list[type[io.ComfyNode]] = [ICOLoadPictures]
