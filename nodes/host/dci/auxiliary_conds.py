"""The auxiliary branch's conditionings and guider, beside a run that stays as the host made it."""

from __future__ import annotations

import copy
import inspect
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .beside_options import with_predictions
from .conds import NEGATIVE, auxiliary_text
from .plan import MARK, DciPatch, DciPlan

Conds = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class Auxiliary:
    """The auxiliary branch of a run.

    guider  a copy of the run's with the auxiliary's conditionings
    twins   for each of its conditionings that has the auxiliary text: the concept's that it stands beside (uuids)
    areas   of the concept's conditionings, (height, width, y, x) in latent pixels
    """

    guider: Any
    twins: dict[Any, Any]
    areas: dict[Any, tuple[int, ...]]

    @classmethod
    def of(
        cls, guider: Any, patch: DciPatch, noise: Tensor, latent: Tensor, mask: Tensor | None, extra: dict[str, Any]
    ) -> Auxiliary:
        """From a run whose conditionings the host has prepared."""
        from comfy.samplers import process_conds

        conds, twins = auxiliary_conds(guider.conds, patch.plan, patch.hints != "concept")
        shapes = {"latent_shapes": [noise.shape]} if takes(process_conds, "latent_shapes") else {}
        model = guider.inner_model
        rest = {"latent_image": latent, "denoise_mask": mask, "seed": extra.get("seed"), **shapes}
        mine = copy.copy(guider)
        mine.conds = process_conds(model, noise, conds, noise.device, **rest)
        areas = {
            entry["uuid"]: tuple(entry["area"])
            for entries in guider.conds.values()
            for entry in entries
            if entry.get("area") is not None and "uuid" in entry
        }
        return cls(mine, twins, areas)

    def run_own(self, y: Tensor, level: Tensor, options: dict[str, Any]) -> dict[str, Tensor]:
        """What each list that holds auxiliary text predicts for y."""
        from comfy.samplers import calc_cond_batch

        own = {
            name: entries
            for name, entries in self.guider.conds.items()
            if any(entry.get("uuid") in self.twins for entry in entries)
        }
        out = calc_cond_batch(self.guider.inner_model, list(own.values()), y, level, options)
        return dict(zip(own, out, strict=True))

    def joining(self, options: dict[str, Any], known: Mapping[str, Tensor]) -> dict[str, Any]:
        """Options with which the guider takes predictions that are known, and runs the others."""
        return with_predictions(options, {id(self.guider.conds[name]): x0 for name, x0 in known.items()})


def auxiliary_conds(conds: Conds, plan: DciPlan, has_hints: bool) -> tuple[Conds, dict[Any, Any]]:
    """(the conditionings with the auxiliary's text where the plan's stands, its uuids -> the concept's)."""
    twins: dict[Any, Any] = {}
    controls: dict[int, Any] = {}
    out: Conds = {}
    for name, entries in conds.items():
        out[name] = []
        for entry in entries:
            mine = {**entry, "uuid": uuid.uuid4()}
            if name != NEGATIVE and entry.get(MARK) == plan.mark:
                mine |= auxiliary_text(entry, plan)
                twins[mine["uuid"]] = entry.get("uuid")
            control = mine.pop("control", None)
            if control is not None and has_hints:
                if id(control) not in controls:
                    controls[id(control)] = copied(control)
                mine["control"] = controls[id(control)]
            out[name].append(mine)
    return out, twins


def copied(control: Any) -> Any:
    """A ControlNet of its own for the auxiliary, with those before it."""
    mine = control.copy()
    if getattr(control, "previous_controlnet", None) is not None:
        mine.set_previous_controlnet(copied(control.previous_controlnet))
    return mine


def without_controls(conds: Conds) -> Conds:
    """The same conditionings without ControlNets."""
    return {name: [{k: v for k, v in entry.items() if k != "control"} for entry in es] for name, es in conds.items()}


def takes(function: Any, name: str) -> bool:
    """Whether a function of the host takes a keyword."""
    return name in inspect.signature(function).parameters
