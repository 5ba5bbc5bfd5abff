"""The study's page and numbers, from its cells alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..dci.plot_style import DIALS, name_of
from ..dci.report_words import decided, table, text
from ..dci.statistics import Array, Spots, drawn_means, mean, measured
from ..dci.study_inference import SHARE
from .study import SETTINGS, Plan, Setting

LIKENESS = ("dino", "clip_i")  # the first that was measured is the study's likeness
NAMES = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}
Results = Mapping[str, Mapping[str, Any]]


def summarise(plan: Plan, results: Results, device: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured; device: the server's, name and bytes."""
    measures = [name for name in (*LIKENESS, "clip_t") if name in results[plan.key(plan.subjects[0], SETTINGS[0])]]
    means = {one.name: {name: mean(scores(plan, results, one, name)).row() for name in measures} for one in SETTINGS}
    found: dict[str, Any] = {
        "base": asdict(plan.base),
        "subjects": [one.name for one in plan.subjects],
        "prompts": len(plan.subjects[0].prompts),
        "seeds": list(plan.seeds),
        "steps": plan.steps,
        "device": {**device, "most_bytes": max(numbers["most_bytes"] for numbers in results.values())},
        "seconds_a_cell": round(float(np.mean([numbers["seconds"] for numbers in results.values()])), 1),
        "likeness": measures[0],
        "settings": means,
    }
    return {**found, **reaches(plan, results, measures[0])}


def reaches(plan: Plan, results: Results, likeness: str) -> dict[str, Any]:
    """Per dial what it reaches, and how far DCI is ahead; plain sampling belongs to every dial."""
    plain = SETTINGS[0]
    least = drawn_means(scores(plan, results, plain, likeness))
    volume: dict[str, Array] = {}
    at: dict[str, Array] = {}
    for dial in DIALS:
        own = [plain, *(one for one in SETTINGS if one.dial == dial)]
        pairs = [(scores(plan, results, one, likeness), scores(plan, results, one, "clip_t")) for one in own]
        spots = Spots.of(pairs)
        volume[dial], at[dial] = spots.hypervolume(), spots.following_at(SHARE, least)
    numbers = {"hypervolume": volume, "prompt_following_at_95_likeness": at}
    return {
        **{name: {dial: measured(drawn).row() for dial, drawn in one.items()} for name, one in numbers.items()},
        "dci_minus": {
            dial: {name: measured(one["dci"] - one[dial]).row() for name, one in numbers.items()}
            for dial in DIALS
            if dial != "dci"
        },
    }


def scores(plan: Plan, results: Results, setting: Setting, name: str) -> Array:
    """[subjects prompts seeds]."""
    return np.array([results[plan.key(subject, setting)][name] for subject in plan.subjects], dtype=np.float64)


def write_report(summary: Mapping[str, Any]) -> str:
    """Markdown: the answer, what each dial reaches, every setting."""
    base, device, likeness = summary["base"], summary["device"], NAMES[summary["likeness"]]
    parts = [
        f"# DCI and plain dials on {base['checkpoint']}\n\n"
        f"{len(summary['subjects'])} subjects, {summary['prompts']} prompts each, seeds {summary['seeds']}, "
        f"{base['size']} px, {base['num_steps']} steps of {base['sampler']} {base['scheduler']} at CFG "
        f"{base['cfg']:g}; ICO at step {summary['steps']}. Likeness is {likeness}, following CLIP-T, "
        f"both plain cosines. Intervals: 95%, paired bootstrap clustered by subject, then prompt.\n\n"
        f"On {device['name']} ({device['bytes'] / 2**30:.1f} GiB), of which at most {device['most_bytes'] / 2**30:.1f} "
        f"GiB were taken, other programs' share included; {summary['seconds_a_cell']} s for a setting of a subject.",
        "## Answer\n\n" + answer(summary),
        "## What each dial reaches\n\n" + reach_table(summary),
        "## Every setting\n\n" + settings_table(summary),
    ]
    return "\n\n".join(parts) + "\n"


def answer(summary: Mapping[str, Any]) -> str:
    """DCI against every dial at 95% of plain likeness."""
    at = summary["prompt_following_at_95_likeness"]
    lines = [
        f"- against {name_of(dial)}: {text(at['dci'])} and {text(at[dial])}, "
        f"difference {text(lead['prompt_following_at_95_likeness'], '+')}: "
        f"{decided(lead['prompt_following_at_95_likeness'])}"
        for dial, lead in summary["dci_minus"].items()
    ]
    return "Following at 95% of plain likeness:\n\n" + "\n".join(lines)


def reach_table(summary: Mapping[str, Any]) -> str:
    """Both numbers of every dial."""
    names = ("hypervolume", "prompt_following_at_95_likeness")
    lines = [[name_of(dial), *(text(summary[name][dial]) for name in names)] for dial in DIALS]
    return table(["", "hypervolume", "following at 95% likeness"], lines)


def settings_table(summary: Mapping[str, Any]) -> str:
    """Each setting's means."""
    measures = list(next(iter(summary["settings"].values())))
    lines = [[name, *(text(found[one]) for one in measures)] for name, found in summary["settings"].items()]
    return table(["setting", *(NAMES[name] for name in measures)], lines)
