"""Interrupted training on disk: one safetensors file from which it goes on exactly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..concept.deltas import Widths
from ..errors import BadConcept, BadSettings
from ..files import check_finite, read_tensors, write_tensors
from ..model import Model
from .data import TrainingData
from .precision import LossScale
from .settings import IcoSettings
from .state import TrainState, begin_training, parameters_by_name

FORMAT = "ico-dci training"
FORMAT_VERSION = 1
FACTS = ("settings", "noun", "family", "data", "step", "losses")
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of one parameter


def save_state(state: TrainState, path: Path) -> None:
    """The training stands at path, contexts and optimiser included; raises NotSaved, and an older file survives."""
    named = parameters_by_name(state)
    tensors = {f"learned.{name}": p for name, p in named.items()}
    for name, parameter in named.items():
        for moment, x in state.optimiser.state.get(parameter, {}).items():
            tensors[f"adam.{name}.{moment}"] = x
    about = {
        "settings": dataclasses.asdict(state.settings),
        "noun": state.noun,
        "family": state.family,
        "data": state.data,
        "step": state.step,
        "losses": state.losses,
        "scale": [state.scale.value, state.scale.good_steps],
        "skipped": state.skipped,
        "bad_draws": state.bad_draws,
    }
    write_tensors(path, tensors, {"format": FORMAT, "version": str(FORMAT_VERSION), "about": json.dumps(about)})


def load_state(
    path: Path,
    model: Model,
    data: TrainingData,
    settings: IcoSettings,
    *,
    noun: str,
    widths: Widths | None = None,
    rare_tokens: Mapping[str, Sequence[int]] | None = None,
    device: torch.device | None = None,
) -> TrainState:
    """The saved training, ready to go on; k + m steps in two runs equal k + m in one, bit for bit.

    Refuses other settings, another noun, other pictures and another model with BadSettings; more steps are welcome
    when the schedule is constant. Raises BadConcept for a damaged or foreign file.
    """
    tensors, metadata = read_tensors(path, "training file")
    about = read_about(path, metadata, (FORMAT, FORMAT_VERSION), FACTS)
    state = begin_training(model, data, settings, noun=noun, widths=widths, rare_tokens=rare_tokens, device=device)
    _check_same(about, state)
    check_finite(tensors, path.name)
    _fill(path, state, tensors)
    state.step, state.losses = int(about["step"]), [float(loss) for loss in about["losses"]]
    state.skipped, state.bad_draws = int(about.get("skipped", 0)), int(about.get("bad_draws", 0))
    if "scale" in about:  # older files know none
        state.scale = LossScale(float(about["scale"][0]), int(about["scale"][1]))
    return state


def read_about(path: Path, metadata: Mapping[str, str], kind: tuple[str, int], facts: Sequence[str]) -> dict[str, Any]:
    """What a training file says of itself; raises BadConcept for another kind (format, version) or a missing fact."""
    form, version = kind
    if metadata.get("format") != form or metadata.get("version") != str(version):
        raise BadConcept(
            f'"{path.name}" is {metadata.get("format", "no training file")} {metadata.get("version", "")}'.strip(),
            f"{form} {version} was expected",
            "resume from the file that the interrupted training wrote, or begin again",
        )
    try:
        about = json.loads(metadata["about"])
        [about[fact] for fact in facts]
    except (KeyError, ValueError, TypeError) as error:
        raise damaged(path) from error
    return dict(about)


def _check_same(about: Mapping[str, Any], state: TrainState) -> None:
    before, now = dict(about["settings"]), json.loads(json.dumps(dataclasses.asdict(state.settings)))
    before.setdefault("precision", now["precision"])  # older files computed as the model was loaded
    before.setdefault("rank_rate", 1.0)
    if now["schedule"] == before.get("schedule") == "constant":
        before["steps"] = now["steps"]  # a constant schedule may simply go on
    pairs = {name: (before.get(name), value) for name, value in now.items()}
    pairs |= {name: (about[name], getattr(state, name)) for name in ("noun", "family", "data")}
    for name, (old, new) in pairs.items():
        if old != new:
            what = "pictures or captions differ" if name == "data" else f"{name.replace('_', ' ')} is {new}"
            was = "those of the interrupted training were expected" if name == "data" else f"{old} was expected"
            raise BadSettings(what, was, "resume with what the training began with, or begin a new one")


def _fill(path: Path, state: TrainState, tensors: Mapping[str, Tensor]) -> None:
    named = parameters_by_name(state)
    wanted = {f"learned.{name}": p.shape for name, p in named.items()}
    if wanted != {name: x.shape for name, x in tensors.items() if name.startswith("learned.")}:
        raise damaged(path)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[f"learned.{name}"])
            moments = {m: tensors[f"adam.{name}.{m}"] for m in MOMENTS if f"adam.{name}.{m}" in tensors}
            if moments:  # AdamW counts steps on the CPU, the fused one where the parameter is
                counter = parameter.device if state.optimiser.defaults["fused"] else torch.device("cpu")
                state.optimiser.state[parameter] = {
                    m: x.to(counter if m == "step" else parameter.device) for m, x in moments.items()
                }


def damaged(path: Path) -> BadConcept:
    """What is said of a training file that lacks a part."""
    return BadConcept(
        f'"{path.name}" does not hold all parts of a training', "a whole training file was expected", "begin again"
    )
