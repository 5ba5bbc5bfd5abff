"""The adapter study's numbers as one JSON file, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...version import VERSION
from ..dci.statistics import mean
from ..dci.study_inference import side
from ..dci.summary import lead_numbers, reached, settings
from ..dci.tables import Results, Row, difference, ends, write_csv
from . import tables
from .pairs import MODES, PairSetting
from .protocol import PAIRS, has_one_noun
from .study import Plan

MEASURES = ("likeness", "following", "both")


def summarise(plan: Plan, results: Results, weights: str, same_picture: float = 0.0) -> dict[str, Any]:
    """Everything that was measured.

    weights       fingerprint of the world's
    same_picture  share of the adapter's training rows that read the very picture that they drew
    """
    size, rows = plan.size, tables.rows(plan, results)
    changes = tables.from_decoupled(rows, MEASURES)
    return {
        "version": VERSION,
        "weights": weights,
        "adapter": plan.adapters.main,
        "same_picture": same_picture,
        "last_layer": plan.adapters.last_layer,
        "size": size.name,
        "concepts": list(size.subjects.concepts),
        "seeds": len(size.subjects.seeds),
        "posed_concepts": list(size.poses.concepts),
        "pairs_of_concepts": [list(PAIRS[pair]) for pair in size.pairs.concepts],
        **methods(rows),
        "text_scale_minus_decoupled": {
            name: {measure: one.row() for measure, one in found.items()} for name, found in changes.items()
        },
        "copying": copying(plan, results),
        "pairs": pairs(plan, results),
        "router": router(plan, results),
        "estimator": tables.estimator(plan, results),
    }


def methods(rows: Sequence[Row]) -> dict[str, Any]:
    """Every setting's means, what each method reaches, and how far the decoupled adapter is ahead."""
    found, low = tables.reaches(rows), tables.reaches(rows, low_prior=True)
    unseen = [replace(row, scores=side(row, True)) for row in rows]
    return {
        **reached(found),
        "adapter_minus": lead_numbers(found, "adapter"),
        "inference": settings(rows),
        "low_prior": {**reached(low), "adapter_minus": lead_numbers(low, "adapter"), "inference": settings(unseen)},
    }


def copying(plan: Plan, results: Results) -> dict[str, Any]:
    """Per factor: how much is copied at each text scale, and how much more at 1 than at 0."""
    told = {}
    for name, by_scale in tables.copied(plan, results).items():
        each = {f"{scale:g}": mean(values).row() for scale, values in by_scale.items()}
        told[name] = {"text_scale": each, "1 minus 0": difference(by_scale[1.0], by_scale[0.0]).row()}
    return told


def pairs(plan: Plan, results: Results) -> dict[str, Any]:
    """Two subjects: each setting's means over all pairs and over those of one noun; text scale 1 minus 0 by mode."""
    kinds = {"all pairs": False}
    if any(has_one_noun(PAIRS[pair]) for pair in plan.size.pairs.concepts):
        kinds["pairs of one noun"] = True
    found: dict[str, Any] = {}
    for kind, one_noun in kinds.items():
        scores = {s: tables.pair_table(plan, results, s, one_noun) for s in plan.pairs}
        found[kind] = {s.name: {name: mean(v).row() for name, v in one.items()} for s, one in scores.items()}
        found[f"{kind}, text scale 1 minus 0"] = {mode: coupled_minus(scores, mode) for mode in MODES[1:]}
    found["true pictures"] = {name: mean(v).row() for name, v in tables.ceiling_table(plan, results).items()}
    return found


def coupled_minus(scores: dict[PairSetting, dict[str, Any]], mode: str) -> dict[str, dict[str, float]]:
    """What reading by text rows changes in one mode."""
    by_scale = {s.way.text_scale: one for s, one in scores.items() if s.mode == mode}
    return {name: difference(by_scale[1.0][name], by_scale[0.0][name]).row() for name in by_scale[0.0]}


def router(plan: Plan, results: Results) -> dict[str, Any]:
    """Mean share of each level, shallowest first, and mean entropy."""
    shares, entropy = tables.router(plan, results)
    return {"shares": [one.row() for one in shares], "entropy": entropy.row()}


def write_tables(plan: Plan, results: Results, folder: Path) -> None:
    """A CSV for single subjects, copying, pairs and the router; raises NotSaved."""
    write_csv(folder / "subjects.csv", [row.plain() for row in tables.rows(plan, results)])
    lines: list[dict[str, Any]] = []
    for factor, by_scale in tables.copied(plan, results).items():
        for scale, values in by_scale.items():
            found = {f"copied{end}": value for end, value in ends(mean(values)).items()}
            lines.append({"factor": factor, "text_scale": scale, **found})
    write_csv(folder / "copying.csv", lines)
    lines = []
    for setting in plan.pairs:
        scores = tables.pair_table(plan, results, setting, one_noun=False)
        numbers = {f"{name}{end}": v for name, each in scores.items() for end, v in ends(mean(each)).items()}
        lines.append({"setting": setting.name, **numbers})
    write_csv(folder / "pairs.csv", lines)
    shares, entropy = tables.router(plan, results)
    lines = [{"what": f"share of level {i + 1}", **one.row()} for i, one in enumerate(shares)]
    write_csv(folder / "router.csv", [*lines, {"what": "entropy", **entropy.row()}])
