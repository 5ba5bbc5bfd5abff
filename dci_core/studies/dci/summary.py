"""The study's numbers as one JSON file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...version import VERSION
from . import (
    study_anatomy,
    study_choice,
    study_claim,
    study_dial,
    study_equal,
    study_forms,
    study_inference,
    study_judge,
    study_layout,
    study_stop,
    study_training,
)
from .cells import key_of
from .plot_style import OURS
from .protocol import Panel
from .spring import predicted
from .statistics import mean, measured
from .study import STUDIES, Plan
from .study_inference import Reach, reach, reaches
from .tables import MEASURES, NumbersByName, Results, Row, difference, write_csv

AT_SHARE = "prompt_following_at_95_likeness"


def summarise(plan: Plan, results: Results, weights: str) -> dict[str, Any]:
    """Everything that was measured, by study."""
    size, ground = plan.size, plan.ground
    found: dict[str, Any] = {
        "version": VERSION,
        "weights": weights,
        "size": size.name,
        "studies": list(plan.studies),
        "kind": ground.kind,
        "steps": ground.main,
        "concepts": list(size.dials.concepts),
        "seeds": len(size.dials.seeds),
        "hypervolume": {},
    }
    if "b" in plan.studies:
        found |= inference(study_inference.rows(size, ground, results))
    if "claim" in plan.studies:
        found |= inference(study_claim.rows(size, ground, results))
        parts = study_claim.split(size, ground, results)
        found["by_look"] = {words: inference(rows) for words, rows in parts.items() if rows}
    if "a" in plan.studies:
        rows = study_training.rows(size, ground, results)
        for name in study_training.CURVES:
            points = [row.scores for row in rows if row.group == name]
            found["hypervolume"][name] = measured(reach(points, None).hypervolume).row()
        found["training"] = settings(rows)
    if "c" in plan.studies:
        found["anatomy"] = settings(study_anatomy.rows(size, ground, results))
        found["guidance"] = guidance(plan, results)
    if "choice" in plan.studies:
        found["choice"] = settings(study_choice.rows(size, ground, results))
    if "forms" in plan.studies:
        rows = study_forms.rows(size, ground, results)
        found["forms"], found["forms_minus_default"] = settings(rows), study_forms.minus_default(rows)
        found["forms_asked"] = asked_of(size.candidates)
    if "dial" in plan.studies:
        rows = study_dial.rows(size, ground, results)
        found["dial"], found["dials_compared"] = settings(rows), study_dial.compared(rows)
        found["dial_asked"] = asked_of(size.candidates)
    if "equal" in plan.studies:
        rows = study_equal.rows(size, ground, results)
        found["curves"], found["at_equal_likeness"] = settings(rows), study_equal.at_equal_likeness(rows)
        found["equal_asked"] = asked_of(size.curve)
    if "stop" in plan.studies:
        found["stopping"] = study_stop.stopping(size, ground, results)
        found["stop_asked"] = {"development": asked_of(size.candidates), "test": asked_of(size.curve)}
    if "layout" in plan.studies:
        found["layout"] = study_layout.numbers(size, ground, results)
    if "judge" in plan.studies:
        found["judge"] = [one.row() for one in study_judge.readings(size, ground, results)]
    return found


def asked_of(panel: Panel) -> dict[str, int]:
    """How many objects and seeds a trial asked."""
    return {"objects": len(panel.concepts), "seeds": len(panel.seeds)}


def inference(rows: Sequence[Row]) -> dict[str, Any]:
    """Study B: what each dial reaches, how far DCI is ahead, and every setting's means."""
    every, low = reaches(rows), reaches(rows, low_prior=True)
    ours = [name for name in OURS if name in every]
    found: dict[str, Any] = reached(every) | {f"{name}_minus": lead_numbers(every, name) for name in ours}
    unseen = [replace(row, scores=study_inference.side(row, True)) for row in rows]
    leads_low = {f"{name}_minus": lead_numbers(low, name) for name in ours}
    found["low_prior"] = {**reached(low), **leads_low, "inference": settings(unseen)}
    found["inference"] = settings(rows)
    plain = next(row for row in rows if row.group == "plain")
    beside = {
        row.name: {
            name: difference(getattr(row.scores, name), getattr(plain.scores, name)).row()
            for name in ("likeness", "following", "both")
        }
        for row in rows
        if row.group == "control"
    }
    return {**found, "controls": beside} if beside else found


def reached(found: dict[str, Reach]) -> dict[str, NumbersByName]:
    """The two numbers of every dial."""
    at = {name: one.at_share for name, one in found.items()}
    return {
        "hypervolume": {name: measured(one.hypervolume).row() for name, one in found.items()},
        AT_SHARE: {name: measured(drawn).row() for name, drawn in at.items() if drawn is not None},
    }


def lead_numbers(found: dict[str, Reach], name: str = "dci") -> dict[str, dict[str, dict[str, float]]]:
    """How far that dial is ahead of every other one."""
    ahead = study_inference.leads(found, name)
    return {other: {name: one.row() for name, one in numbers.items()} for other, numbers in ahead.items()}


def settings(rows: Sequence[Row]) -> dict[str, dict[str, NumbersByName]]:
    """Per group and setting the means."""
    found: dict[str, dict[str, NumbersByName]] = {}
    for row in rows:
        found.setdefault(row.group, {})[row.name] = {name: mean(getattr(row.scores, name)).row() for name in MEASURES}
    return found


def guidance(plan: Plan, results: Results) -> list[dict[str, Any]]:
    """Per guidance mode, step count and CFG: what the latents did, and what the spring factor says they would."""
    found = []
    for cell in study_anatomy.springs(plan.size, plan.ground):
        numbers = results[key_of(cell)]
        line = {"guidance": cell.guidance, "steps": cell.num_steps, "cfg": cell.cfg, **numbers}
        if cell.guidance == "shared":
            line["apart_predicted"] = [float(f"{x:.6g}") for x in predicted(dict(numbers), cell.cfg)]
        found.append(line)
    return found


def write_tables(plan: Plan, results: Results, folder: Path) -> None:
    """A CSV for each study; raises NotSaved."""
    size, ground = plan.size, plan.ground
    tables: dict[str, Sequence[dict[str, Any]]] = {}
    studies = {
        "a": study_training,
        "b": study_inference,
        "c": study_anatomy,
        "choice": study_choice,
        "forms": study_forms,
        "dial": study_dial,
        "equal": study_equal,
        "claim": study_claim,
    }
    for letter, study in studies.items():
        if letter in plan.studies:
            tables[STUDIES[letter]] = [row.plain() for row in study.rows(size, ground, results)]
    if "c" in plan.studies:
        tables["guidance"] = spring_lines(guidance(plan, results))
    if "judge" in plan.studies:
        tables["judge"] = [one.row() for one in study_judge.readings(size, ground, results)]
    for name, lines in tables.items():
        write_csv(folder / f"{name}.csv", lines)


def spring_lines(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latents' course as a line for each step."""
    lines = []
    for one in found:
        told = one.get("apart_predicted")
        for i, sigma in enumerate(one["sigma"]):
            line = {name: one[name] for name in ("guidance", "steps", "cfg")}
            line |= {"step": i, "sigma": sigma, "correlation": one["correlation"][i], "apart": one["apart"][i]}
            lines.append(line | ({"apart_predicted": told[i]} if told else {}))
    return lines
