"""The study's page in Markdown, from its summary alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dci.report_words import mark, table, text
from ..dynaip.tables import PAIR_MEASURES
from .ways import APART, APART_MASKS, STACKED, WHOLE

Summary = Mapping[str, Any]
METHOD = """## How it is measured

- Two test concepts, each learned by itself from five pictures of one place, are put on one model; the prompt names
  both: "a {concept:a} in snow next to a {concept:b}". The base saw pairs of ordinary objects in training, the first on
  the left, at half the size of an object alone; it never saw these concepts. The rule was chosen on development pairs
  (`two-evidence --development`), and is reported on test pairs of six other concepts.
- Both halves are cut out as squares, enlarged and judged. Own: likeness of the halves to the concept that belongs
  there. Leak: likeness to the other one. Nearer: share of the halves that are more like their own. Noun: share that
  show its noun. Place: the whole picture shows the place. True pictures say what the judge can see at that size: of
  two that are painted side by side it reads so much likeness, and leak, into them.
- Intervals: 95%, paired bootstrap clustered by pair, then place; differences over the same draws.
- Stacked: both concepts' weight changes everywhere, as chained loaders give them. Masks alone: each concept's words
  are heard in its half only. DCI on the first: what one focus concept gives, the second in both prompts. Apart: each
  concept's key and value changes are taken off the other's words, and words that are nobody's get the mean of both.
  Apart, masks: as well, and in its half each concept sees its own model in words that are nobody's.
  DCI: one auxiliary branch with two stand-ins, every place weighed by the concept that claims it most.
- The U-Net of the small world is no ground for this: its training pictures hold one object each, and of two that are
  asked for it draws one."""


def write_report(summary: Summary) -> str:
    """The whole page: the answers first, then every setting."""
    parts = [head(summary), answers(summary)]
    parts += ["## Every setting", settings_table(summary), changes_table(summary)]
    if summary["swapped"]:
        parts += ["## Sides against the prompt", swapped_table(summary)]
    return "\n\n".join([*parts, METHOD]) + "\n"


def head(summary: Summary) -> str:
    """What was asked of whom."""
    return (
        f"# Evidence: two concepts in one picture ({summary['size']})\n\n"
        "Do two learned concepts keep to themselves in one picture, and what keeps them? "
        f"{len(summary['pairs'])} pairs of concepts on the small flow world, {summary['places']} places each, seeds: "
        f"{summary['seeds']}, ICO at step {summary['steps']} on {summary['references']} references."
    )


def answers(summary: Summary) -> str:
    """What keeping apart and all of it change against stacking."""
    lines = []
    for name in (APART.name, APART_MASKS.name, WHOLE.name):
        change = summary["minus stacked"][name]
        told = "; ".join(f"{measure} {text(change[measure], '+')}" for measure in PAIR_MEASURES)
        lines.append(f"- {name}, minus {STACKED.name}: {told}.")
    return "## Answers\n\nBold below where the interval leaves zero out.\n\n" + "\n".join(lines)


def settings_table(summary: Summary) -> str:
    """Every setting's means, and those of true pictures."""
    found = {**summary["settings"], "true pictures": summary["true pictures"]}
    return table(["", *PAIR_MEASURES], [[name, *(text(one[m]) for m in PAIR_MEASURES)] for name, one in found.items()])


def changes_table(summary: Summary) -> str:
    """What each setting changes against stacking."""
    found = summary["minus stacked"]
    return table(
        [f"minus {STACKED.name}", *PAIR_MEASURES],
        [[name, *(mark(one[m]) for m in PAIR_MEASURES)] for name, one in found.items()],
    )


def swapped_table(summary: Summary) -> str:
    """Where the regions ask for the other order than the prompt: noun and nearer are hits of the place."""
    lines = [[name, *(text(one[m]) for m in PAIR_MEASURES)] for name, one in summary["swapped"].items()]
    told = (
        "The first concept's region is the right half, where the base puts what is named second, and the second's the "
        "left. Noun is the hit rate: the share of the halves that show the noun that their region asks for."
    )
    return f"{told}\n\n{table(['', *PAIR_MEASURES], lines)}"
