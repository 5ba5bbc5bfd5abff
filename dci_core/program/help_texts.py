"""What `--help` says of every option: what it does, and what holds where it is left out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..dynaip.training.settings import AdapterSettings
from ..tiny.defaults import TINY_DCI, TINY_ICO, TINY_SAMPLE
from ..tiny.model import WEIGHTS
from .bases import SIZES

SHIPPED = "those that ship"

ICO_HELP = {
    "steps": "updates; more: closer to the pictures, deafer to the prompt",
    "batch": "pictures in one pass",
    "accumulation": "passes averaged into one update",
    "modifier_tokens": "learned vectors behind the trigger",
    "warmup_steps": "of a slowly rising learning rate",
    "seed": "of noise, timesteps and flips",
    "learning_rate": "of weights and vectors",
    "context_factor": "the words around the concept learn so many times faster",
    "weight_decay": "pulls what is learned to zero",
    "clip_norm": "longest gradient",
    "prior_weight": "how much the noun's own meaning counts",
    "flip_probability": "of mirrored pictures, 0..1",
    "positions": "where learned tokens count their place",
    "prior": "what keeps the noun's own meaning",
    "schedule": "how the learning rate goes on",
    "precision": "of the passes; what is learned stays fp32",
    "noise_shift": "towards noisier times",
    "ema": "decay of the averaged adapter that is written",
    **dict.fromkeys(SIZES, "of the adapter"),
}
SAMPLE_HELP = {
    "guidance": "how the two branches share the empty prompt",
    "gain": "how sharply a place decides",
    "cfg": "guidance away from the empty prompt",
    "num_steps": "of sampling",
    "sampler": "how a step goes",
    "spacing": "where the steps lie",
    "concept": "a concept file",
}
DEFAULTS: dict[str, dict[str, Any]] = {  # by command: what the settings hold where an option is left out
    "train": {**asdict(TINY_ICO), "rank": "full rank"},
    "sample": {**asdict(TINY_SAMPLE), **asdict(TINY_DCI), "layer_text": TINY_DCI.layers.text},
    "demo": {"steps": TINY_ICO.steps},
    "adapter-train": {
        **asdict(AdapterSettings()),
        **dict.fromkeys(SIZES, "as the base asks"),
        "levels": "as the base asks",
        "weights": SHIPPED,
    },
}


def tell_defaults(parser: argparse.ArgumentParser, name: str = "") -> None:
    """Puts the default behind every option's help, in this parser and in those of its commands."""
    for action in parser._actions:  # argparse has no other way to them
        if isinstance(action, argparse._SubParsersAction):
            for command, part in action.choices.items():
                tell_defaults(part, command)
        elif takes_a_value(action):
            words = action.help or ICO_HELP.get(action.dest) or SAMPLE_HELP.get(action.dest, "")
            action.help = words if "default" in words else f"{words} (default: {default_of(action, name)})".strip()


def takes_a_value(action: argparse.Action) -> bool:
    """Whether this is an option that may be left out, with a value behind it."""
    return bool(action.option_strings) and not action.required and action.nargs != 0


def default_of(action: argparse.Action, command: str) -> str:
    """What holds where the option is left out, for people."""
    known: Mapping[str, Any] = DEFAULTS.get(command, {})
    value = known.get(action.dest) if action.default in (None, argparse.SUPPRESS) else action.default
    if value == WEIGHTS:
        return SHIPPED
    if value is None or value in ("", [], ()):
        return "none"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown.replace("%", "%%")
