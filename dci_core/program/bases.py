"""The bases that `adapter-train` knows, and the adapter's sizes as options."""

from __future__ import annotations

import argparse
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..dynaip.adapter import AdapterParams, default_params
from ..dynaip.training.base import FlowBase
from ..errors import BadModel, BadSettings
from ..tiny.flow.model import load_flow_world
from ..tiny.flow_base import TinyFlowBase, on_device
from ..tiny.model import WEIGHTS

TINY, FLUX = "tiny", "flux"
SIZES = ("tokens", "token_width", "expert_depth", "expert_width", "expert_heads", "router_width")
OF_FLUX = ("vision", "size", "guidance", "text_rows")


def add_base(parser: argparse.ArgumentParser) -> None:
    """Options of the base and of the adapter's shape."""
    parser.add_argument("--base", default=TINY, help=f"the frozen model to train it on: {TINY}, or {FLUX} (FLUX.1)")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="of the base: for flux a copy of Black Forest Labs' repository"
    )
    flux = parser.add_argument_group(FLUX, "for this base alone; it needs --weights and --vision, and --bf16 on a GPU")
    flux.add_argument("--vision", type=Path, metavar="DIR", help="openai/clip-vit-large-patch14, or another CLIP model")
    flux.add_argument("--size", type=int, metavar="PX", help="of the pictures, a side (default 512)")
    flux.add_argument("--guidance", type=float, help="strength that the model is told (default 1)")
    flux.add_argument("--text-rows", type=int, metavar="N", help="T5 tokens of a caption (default 512)")
    sizes = parser.add_argument_group("adapter", "defaults follow the base; published sizes are unknown")
    sizes.add_argument("--levels", type=int, nargs="+", metavar="N", help="hidden states of the vision tower it reads")
    for name in SIZES:
        sizes.add_argument(f"--{name.replace('_', '-')}", type=int)


def open_base(options: Namespace, device: torch.device, *, bf16: bool) -> FlowBase:
    """The base that the options name, on that device; raises BadModel, BadSettings."""
    given = {name: getattr(options, name) for name in OF_FLUX if getattr(options, name) is not None}
    if options.base == FLUX:
        return open_large(options.weights, device, torch.bfloat16 if bf16 else torch.float32, **given)
    if options.base != TINY:
        raise BadModel(
            f'the base is "{options.base}"',
            f"{TINY} or {FLUX} was expected",
            "for another model write a FlowBase (dci_core/dynaip/training/base.py) and call train_adapter",
        )
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise BadSettings(f"{names} came", f"the base {TINY} has no such choice", f"leave it out, or use --base {FLUX}")
    return open_tiny(options.weights or WEIGHTS, device)


def open_large(
    weights: Path | None, device: torch.device, dtype: torch.dtype, vision: Path | None = None, **numbers: Any
) -> FlowBase:
    """FLUX.1 from the user's folders; raises BadModel, BadSettings."""
    from ..flux.folder import open_flux  # its libraries take their time to load

    if weights is None or vision is None:
        raise BadModel(
            "the base is flux without its folders",
            "--weights (Black Forest Labs' repository) and --vision (a CLIP model) were expected",
            "name both",
        )
    if any(not value > 0 for value in numbers.values()):
        raise BadSettings(f"the base's numbers are {numbers}", "numbers above 0 were expected", "change them")
    return open_flux(weights, vision, device, dtype, **numbers)


def open_tiny(weights: Path, device: torch.device) -> FlowBase:
    """The small flow world; raises BadModel."""
    try:
        return TinyFlowBase(on_device(load_flow_world(weights), device))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadModel(
            f'the small flow world in "{weights.name}" cannot be used',
            "text, codec, mmdit and vision weights were expected there",
            "install the project again, or name their folder with --weights",
        ) from error


def usual_params(base: FlowBase) -> AdapterParams:
    """The adapter's shape where nothing is asked for: levels as deep in this vision tower as in the usual one."""
    usual, (width, layers) = default_params(base.family), base.vision
    levels = sorted({round(level * layers / usual.vision_layers) for level in usual.levels})
    return replace(usual, vision_width=width, vision_layers=layers, levels=tuple(levels))


def read_params(options: Namespace, base: FlowBase) -> AdapterParams:
    """The adapter's shape from the options; raises BadSettings, BadAdapter."""
    given: dict[str, Any] = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    if any(value < 1 for value in given.values()):
        raise BadSettings(f"the adapter's sizes are {given}", "1 or more each was expected", "change them")
    if options.levels is not None:
        given["levels"] = tuple(options.levels)
    return replace(usual_params(base), **given)
