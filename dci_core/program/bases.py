"""The bases that `adapter-train` knows, and the adapter's sizes as options."""

from __future__ import annotations

import argparse
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..errors import BadModel, BadSettings
from ..image_prompt.adapter import AdapterParams, default_params
from ..image_prompt.training.base import FlowBase
from ..tiny.flow.model import load_flow_world
from ..tiny.flow_base import TinyFlowBase, on_device
from ..tiny.model import WEIGHTS

TINY = "tiny"
SIZES = ("tokens", "token_width", "expert_depth", "expert_width", "expert_heads", "router_width")


def add_base(parser: argparse.ArgumentParser) -> None:
    """Options of the base and of the adapter's shape."""
    parser.add_argument("--base", default=TINY, help=f"the frozen model to train it on: {TINY} (see below)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="other weights of the small world")
    sizes = parser.add_argument_group("adapter", "defaults follow the base; published sizes are unknown")
    sizes.add_argument("--levels", type=int, nargs="+", metavar="N", help="hidden states of the vision tower it reads")
    for name in SIZES:
        sizes.add_argument(f"--{name.replace('_', '-')}", type=int)


def open_base(name: str, weights: Path, device: torch.device) -> FlowBase:
    """The base on that device; raises BadModel."""
    if name != TINY:
        raise BadModel(
            f'the base is "{name}"',
            f"{TINY} was expected: this program carries no Flux or SD3 to train on",
            "write a FlowBase around it (dci_core/image_prompt/training/base.py) and call train_adapter",
        )
    try:
        return TinyFlowBase(on_device(load_flow_world(weights), device))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadModel(
            f'the small flow world in "{weights.name}" cannot be used',
            "text, codec, mmdit and vision weights were expected there",
            "install the project again, or name their folder with --weights",
        ) from error


def read_params(options: Namespace, family: str) -> AdapterParams:
    """The adapter's shape from the options; raises BadSettings, BadAdapter."""
    given: dict[str, Any] = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    if any(value < 1 for value in given.values()):
        raise BadSettings(f"the adapter's sizes are {given}", "1 or more each was expected", "change them")
    if options.levels is not None:
        given["levels"] = tuple(options.levels)
    return replace(default_params(family), **given)
