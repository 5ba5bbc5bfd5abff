"""The node that tries several windows and strengths of DCI from the same noise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..dci_core.dci.sweep import Sweep, read_sweep
from ..dci_core.pictures.sweep_sheet import draw_sweep
from . import node_ui
from .dci_fields import guidance_of, patched, sharing_inputs
from .fields import schema, text, widget
from .host import sampling
from .host.progress import RunsBar
from .node_output import node_output
from .sample_nodes import DCIDualBranchSampler

log = logging.getLogger(__name__)
SWEPT = ("window", "strength")


def swept_inputs() -> dict[str, Any]:
    """The two lists, by the input of the sampler whose place they take."""
    windows = text(
        "windows",
        default="0.1, 0.3, 0.5",
        tooltip="The columns: shares of the noise schedule, above 0 up to 1, with commas. Plain comes first.",
    )
    strengths = text(
        "strengths", default="0, 1, 2", tooltip="The rows: from -10 to 10, with commas; 1 is balanced, 0 is not off."
    )
    return dict(zip(SWEPT, (windows, strengths), strict=True))


class DCISweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        lists, sharing = swept_inputs(), sharing_inputs()
        late = [entry.id for entry in sharing]
        base = [entry for entry in DCIDualBranchSampler.define_schema().inputs if entry.id not in late]
        return schema(
            "look and measure",
            node_id="DCISweep",
            display_name="DCI Sweep",
            description="Draws the same noise with every window and every strength of two lists, and plainly, on one "
            "labelled sheet: to find the two dials of DCI for a concept.",
            search_aliases=["xy plot", "grid", "compare"],
            inputs=[
                *(lists.get(entry.id, entry) for entry in base),
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint, to see the pictures."),
                widget(
                    io.Int,
                    "cell_px",
                    default=256,
                    min=96,
                    max=1024,
                    tooltip="Longer side of a picture on the sheet, px.",
                ),
                *sharing,
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="All pictures on one labelled sheet."),
                io.Image.Output("images", display_name="images", tooltip="The pictures alone, plain first."),
                io.String.Output(
                    "labels", display_name="labels", tooltip="A line for each picture, for Concept Score."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        plan: Any,
        positive: Any,
        negative: Any,
        latent_image: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        vae: Any,
        windows: str,
        strengths: str,
        cell_px: int,
        denoise: float = 1.0,
        **dci: Any,
    ) -> io.NodeOutput:
        sweep = read_sweep(windows, strengths)
        how = sampling.SamplerChoice(seed, steps, cfg, sampler_name, scheduler, denoise)
        warnings: list[str] = []
        latents = list(run_sweep(model, plan, (positive, negative, latent_image), how, sweep, dci, warnings))
        pictures = [sampling.decode(vae, latent) for latent in latents]
        about = f"seed {seed}, {steps} steps, CFG {cfg:g}, {sampler_name} {scheduler}"
        about += f", guidance {guidance_of(model, dci['guidance'])}"
        sheet = draw_sheets(sweep, pictures, plan.texts[0], about, cell_px)
        told = node_ui.said(
            f"{len(pictures) - 1} settings and the plain run, from the same noise", about, warnings=warnings
        )
        return node_output(sheet, torch.cat(pictures), "\n".join(sweep.labels()), ui=told)


def run_sweep(
    model: Any,
    plan: Any,
    rest: tuple[Any, Any, Any],
    how: sampling.SamplerChoice,
    sweep: Sweep,
    dci: dict[str, Any],
    warnings: list[str],
) -> Iterator[dict[str, Any]]:
    """The latent of the plain run, then of each cell, all from the same noise; one bar runs over all.

    warnings  takes what the runs warn of, with the cell's name
    """
    cells = [(0.0, 1.0), *sweep.cells()]  # a closed window is the plain run, bit for bit
    bar = RunsBar(model, len(cells), how.steps)
    for run, (cell, label) in enumerate(zip(cells, sweep.labels(), strict=True)):
        log.info("sweep: %s, picture %d of %d", label, run + 1, len(cells))
        ready, record = patched(bar.told_by(model, run), plan, {**dci, **dict(zip(SWEPT, cell, strict=True))})
        latent = sampling.sample(ready, *rest, how)
        warnings += [f"{label}: {sentence}" for sentence in record.warnings]
        yield latent


def draw_sheets(sweep: Sweep, pictures: list[Tensor], title: str, about: str, cell_px: int) -> Tensor:
    """A sheet for each picture of the batch, as an IMAGE [b h w 3]; pictures [b h w 3] of plain and every cell."""
    sheets = []
    for own in zip(*pictures, strict=True):
        plain, *cells = (picture.float().cpu().permute(2, 0, 1) for picture in own)
        image = draw_sweep(sweep, plain, cells, title, about, cell_px)
        sheets.append(torch.from_numpy(np.asarray(image, dtype=np.float32) / 255))
    return torch.stack(sheets)


NODES: list[type[io.ComfyNode]] = [DCISweep]
