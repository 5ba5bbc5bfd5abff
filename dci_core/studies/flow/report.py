"""The one-page report of the study on the small flow world, from its summary alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..dci.protocol import TEST
from ..dci.report import (
    answer,
    gate_table,
    leads_section,
    reach_section,
    settings_section,
    shown_plots,
)
from ..dci.report_trials import choice_section
from ..dci.report_words import Summary
from .protocol import CONFLICT

METHOD = """## How it is measured

- Likeness, by the judge: 0 another object of the same kind, 1 the concept itself. Prompt-following: share of right
  answers on place and second object. Both in one picture: likeness of 0.7 or more, and everything asked is there.
- Every dial starts from the same checkpoint and noise and has four settings; plain sampling belongs to every dial.
- DCI blends what image tokens read of the text, at the concept's own share of text. "Whole output": the block's whole
  output is blended instead, what image tokens read of each other included; it is a control and no option.
- Window: share of the flow's own time. Prompt swap: the auxiliary prompt inside the window, the concept's after it, one
  branch, no DBIM. Prompt weight: the concept's hidden states between those of the empty prompt and their own.
- Hypervolume: the area under the staircase of a dial's means, from (0, 0). Prompt-following at 95% of plain likeness:
  read off straight lines between neighbours of the frontier.
- The best plain dial is picked by the same pictures that are compared, which favours the dials, not DCI.
- A concept changes keys and values of the text rows of the double blocks alone, as in the program and the nodes. All
  rows of all blocks, an ordinary LoRA, were not measured."""


def write_flow_report(summary: Summary, plots: Sequence[str]) -> str:
    """The whole page: the answer first, then the settings, the gates, and what was chosen from."""
    parts = [head(summary)]
    if "inference" in summary:
        parts += [
            answer(summary),
            conflict(summary),
            *shown_plots(plots, "frontier.png", "reach.png"),
            reach_section(summary),
        ]
        parts += [leads_section(summary), settings_section(summary), *shown_plots(plots, "controls.png")]
    if "gates" in summary:
        parts.append("## The ground: gates\n\n" + gate_table(summary["gates"]))
    if "choice" in summary:
        parts.append(choice_section(summary))
    return "\n\n".join([*parts, METHOD]) + "\n"


def conflict(summary: Summary) -> str:
    """How much plain sampling leaves to be won: gate 1 in words."""
    plain = summary["inference"]["plain"]["plain"]
    both = summary["low_prior"]["inference"]["plain"]["plain"]["both"]["value"]
    low, high = CONFLICT
    told = (
        f"Plain sampling follows {plain['following']['value']:.2f} of what is asked at likeness "
        f"{plain['likeness']['value']:.2f}; object and scene hold together in {both:.2f} of low-prior pictures"
    )
    if both > high:
        return f"{told}. A fair ground has {low:g} to {high:g} (gate 1): **little conflict here, and little to win.**"
    if both < low:
        return f"{told}. A fair ground has {low:g} to {high:g} (gate 1): **here the concepts hold too seldom.**"
    return f"{told}, as a fair ground has (gate 1: {low:g} to {high:g})."


def head(summary: Summary) -> str:
    """What was asked of whom."""
    return (
        f"# Evidence on the small flow world ({summary['size']})\n\n"
        "At the same likeness, does DCI follow prompts better than simpler dials, on a transformer with joint "
        "attention? Measured on the small MM-DiT in Flux's layout: "
        f"{len(summary['concepts'])} of the {len(TEST)} test concepts, 8 prompts each (half of them low-prior: the "
        f"base never saw the noun so), seeds: {summary['seeds']}, Euler with {summary['sampling_steps']} steps, the "
        "same noise for every method, as many settings for each dial. "
        f"The dials start from ICO at step {summary['steps']} on {summary['kind']} references. "
        f"Choices were made on development objects {', '.join(map(str, summary['development']))} alone. "
        "Intervals: 95%, paired bootstrap clustered by concept, then prompt."
    )
