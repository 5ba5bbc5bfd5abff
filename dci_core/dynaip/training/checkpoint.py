"""An unfinished adapter training on disk: one safetensors file, whatever the number of processes that wrote it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import BadSettings
from ...files import check_finite, read_tensors, write_tensors
from ...ico.checkpoint import MOMENTS, damaged, read_about
from ..adapter_file import params_to_json
from .crew import Crew, fill, whole
from .state import AdapterTraining

FORMAT = "ico-dci adapter training"
FORMAT_VERSION = 1
FACTS = ("settings", "params", "base", "data", "step", "losses")
ADVICE = "resume with what the training began with, or begin a new one"


def save_training(training: AdapterTraining, path: Path, crew: Crew) -> None:
    """The training stands at path, optimiser and average included; every process must ask, the first one writes.

    Raises NotSaved, and an older file survives.
    """
    tensors = {name: whole(x) for name, x in _tensors(training).items()}
    about = _about(training) | {"step": training.step, "losses": list(training.losses)}
    if crew.is_main:
        write_tensors(path, tensors, {"format": FORMAT, "version": str(FORMAT_VERSION), "about": json.dumps(about)})
    crew.wait()


def load_training(path: Path, training: AdapterTraining) -> None:
    """Brings a training at step 0 to where the file's one stopped; k + m updates in two runs are k + m in one.

    The same bits on as many processes; on another number of them the same numbers to rounding. Refuses other settings,
    another adapter, base or pictures with BadSettings; more steps are welcome when the schedule is constant. Raises
    BadConcept for a damaged or foreign file.
    """
    tensors, metadata = read_tensors(path, "training file")
    about = read_about(path, metadata, (FORMAT, FORMAT_VERSION), FACTS)
    _check_same(about, _about(training))
    check_finite(tensors, path.name)
    _fill(path, training, tensors)
    training.step = int(about["step"])
    training.losses.extend(float(loss) for loss in about["losses"])


def _about(training: AdapterTraining) -> dict[str, Any]:
    """What must be the same when the training goes on, as JSON has it."""
    facts = {
        "settings": dataclasses.asdict(training.settings),
        "params": params_to_json(training.adapter.params),
        "base": training.base,
        "data": training.data,
    }
    return dict(json.loads(json.dumps(facts)))


def _tensors(training: AdapterTraining) -> dict[str, Tensor]:
    """Everything that is kept, under its name in the file; perhaps sharded."""
    found: dict[str, Tensor] = {}
    for name, parameter in training.learned.items():
        found[f"learned.{name}"] = parameter.detach()
        found[f"average.{name}"] = training.average[name]
        for moment, x in training.optimiser.state.get(parameter, {}).items():
            found[f"adam.{name}.{moment}"] = x
    return found


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old = {**before["settings"]}
    if now["settings"]["schedule"] == old.get("schedule") == "constant":
        old["steps"] = now["settings"]["steps"]  # a constant schedule may simply go on
    pairs = {name: (old.get(name), value) for name, value in now["settings"].items()}
    pairs |= {f"adapter's {name}": (before["params"].get(name), value) for name, value in now["params"].items()}
    for name, (was, new) in pairs.items():
        if was != new:
            raise BadSettings(f"the {name.replace('_', ' ')} is {new}", f"{was} was expected", ADVICE)
    for name, what in (("base", "the base has other weights"), ("data", "pictures or captions differ")):
        if before[name] != now[name]:
            raise BadSettings(what, "those of the interrupted training were expected", ADVICE)


def _fill(path: Path, training: AdapterTraining, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in training.learned.items():
        mine = {part: tensors.get(f"{part}.{name}") for part in ("learned", "average")}
        if any(x is None or x.shape != parameter.shape for x in mine.values()):
            raise damaged(path)
        moments = {m: tensors[f"adam.{name}.{m}"] for m in MOMENTS if f"adam.{name}.{m}" in tensors}
        fill(parameter.data, tensors[f"learned.{name}"])
        fill(training.average[name], tensors[f"average.{name}"])
        if moments:
            training.optimiser.state[parameter] = {m: _moment(training, parameter, m, x) for m, x in moments.items()}


def _moment(training: AdapterTraining, parameter: Tensor, name: str, values: Tensor) -> Tensor:
    """One of AdamW's tensors as the optimiser wants it: its counter where the parameter is only in the fused one."""
    if name == "step":
        return values.to(parameter.device if training.optimiser.defaults["fused"] else "cpu")
    moment = torch.zeros_like(parameter, requires_grad=False)
    fill(moment, values)
    return moment
