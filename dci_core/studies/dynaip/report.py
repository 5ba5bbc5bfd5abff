"""The adapter study's one-page report in Markdown, from its summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..dci.report import AT_SHARE, HYPERVOLUME
from ..dci.report_words import mark, settings_lines, table, text
from .plots import FACTOR_NAMES, NAMES, methods_of
from .tables import PAIR_MEASURES

Summary = Mapping[str, Any]
PLOTS = {
    "frontier.png": "What each method reaches, from the same noise",
    "reach.png": "Hypervolume, and prompt-following at 95% of the best likeness, with 95% intervals",
    "text_scale.png": "The text scale: likeness and prompt-following; what is copied from the reference",
    "granularity.png": "From texture to meaning",
    "pairs.png": "Two subjects, each in its half, with and without decoupling",
    "router.png": "What the router gives each level",
}
METHOD = """## How it is measured

- The references are new to the adapter: test concepts in looks that no training picture shows. One reference (number
  1 of five varied ones) or three (1, 2, 3); number 0, the noun's home, is left out. The prompt names the noun alone.
- Likeness, prompt-following, both, the eight prompts, the noise and the intervals are those of `docs/evidence` (the
  judge; 95%, paired bootstrap clustered by concept, then prompt; for pairs by pair, then place; for the router by
  concept, then picture). Every method has five settings, and drawing without a reference belongs to each.
- Prompt-following at 95% of the best likeness: the best of any setting of any method, in the same draw; 0 where a
  method does not get there.
- Copying: eight references in a balanced design (place left or right, small or large, flipped or not, a dark or a
  bright place), all else the same. It is the change of the samples over the change of the references: 0 nothing, 1
  all of it. The references' pose is the renderer's truth; the samples' is read by trying the object's own template in
  702 poses over ground of one colour a row, and light is the mean brightness of the picture, so a copied background
  counts as light.
- Pairs: both halves are cut out as squares, enlarged and judged. Own: likeness to the subject that belongs there.
  Leak: likeness to the other one; where the first is read alone, likeness of the other half to it. Nearer: share of
  halves more like their own subject. True pictures of both subjects side by side say what the judge can see at that
  size.
- Published: text rows read the reference in training and not at inference; several levels, a router, weights that a
  user can set. Ours: sizes, the text scale between 0 and 1, the granularity dial, regions. Nothing was chosen on
  these concepts."""
WORDS = {True: "yes", False: "no", None: "not decided"}


def write_report(summary: Summary, plots: Sequence[str]) -> str:
    """The whole page: the answers first, then each part with its plots."""

    def shown(*names: str) -> list[str]:
        return [f"![{PLOTS[name]}]({name})\n\n*{PLOTS[name]}.*" for name in names if name in plots]

    parts = [head(summary), answers(summary), *shown("frontier.png", "reach.png"), reach_section(summary)]
    parts += ["## Text scale", *shown("text_scale.png"), copying_table(summary), changes_table(summary)]
    parts += ["## Two subjects", *shown("pairs.png"), *pairs_tables(summary)]
    parts += ["## Levels", *shown("granularity.png", "router.png"), router_words(summary)]
    parts += [settings_section(summary), METHOD]
    return "\n\n".join(parts) + "\n"


def head(summary: Summary) -> str:
    """What was asked of whom."""
    own = summary["same_picture"]
    read = f"{own:.0%} of the rows reading the very picture that they drew" if own else "each reading another picture"
    return (
        f"# Evidence: image prompts on the small flow world ({summary['size']})\n\n"
        "Does keeping text rows from the reference (decoupling, text scale 0) follow prompts better, copy less pose "
        f"and light, and keep two subjects apart? {len(summary['concepts'])} test concepts, 8 prompts each, seeds: "
        f"{summary['seeds']}; copying on {len(summary['posed_concepts'])} concepts that look left or right; "
        f"{len(summary['pairs_of_concepts'])} pairs. Adapter {summary['adapter']}, trained on single subjects alone, "
        f"{read}. "
        "It is our reconstruction of DynaIP on our own small world, not the published model."
    )


def sign_of(change: Summary) -> int:
    """1 above zero, -1 below, 0 where the interval holds it."""
    return 1 if change["low"] > 0 else -1 if change["high"] < 0 else 0


def answer(question: str, change: Summary, expected: int) -> str:
    """A question that a difference decides; expected: the sign that says yes."""
    found = sign_of(change)
    return f"- {question} {WORDS[found == expected if found else None].capitalize()}: {text(change, '+')}."


def answers(summary: Summary) -> str:
    """The opening questions, each with its difference."""
    change = summary["text_scale_minus_decoupled"]["text scale 1"]
    lines = [
        answer("Does prompt-following fall at text scale 1?", change["following"], -1),
        answer("Does likeness grow at text scale 1?", change["likeness"], 1),
    ]
    for name, words in FACTOR_NAMES.items():
        lines.append(answer(f"Does copying of {words} grow?", summary["copying"][name]["1 minus 0"], 1))
    for mode in ("regions", "first alone"):
        leak = summary["pairs"]["all pairs, text scale 1 minus 0"][mode]["leak"]
        lines.append(answer(f"Does text scale 1 leak more between two subjects ({mode})?", leak, 1))
    for other in ("last_level", "last_layer"):
        if other in summary["adapter_minus"]:
            lead = summary["adapter_minus"][other][HYPERVOLUME]
            lines.append(answer(f"Is the adapter ahead of the {NAMES[other].split(',')[0]} (hypervolume)?", lead, 1))
    return "## Answers\n\nText scale 1 minus 0 with its 95% interval.\n\n" + "\n".join(lines)


def reach_section(summary: Summary) -> str:
    """The two numbers of every method, and the decoupled adapter minus every other."""
    lines, leads = [], []
    for name in methods_of(summary):
        parts = (summary, summary["low_prior"])
        lines.append([NAMES[name], *(text(part[number][name]) for part in parts for number in (HYPERVOLUME, AT_SHARE))])
        if name != "adapter":
            ahead = [part["adapter_minus"][name][number] for part in parts for number in (HYPERVOLUME, AT_SHARE)]
            leads.append([NAMES[name], *(mark(lead) for lead in ahead)])
    columns = ["hypervolume", "following at 95% likeness", "low-prior: hypervolume", "low-prior: at 95%"]
    told = "Bold where the interval leaves zero out."
    return (
        f"## What each method reaches\n\n{table(['', *columns], lines)}\n\n"
        f"{table(['decoupled minus', *columns], leads)}\n\n{told}"
    )


def copying_table(summary: Summary) -> str:
    """How much of each factor is copied, by text scale."""
    scales = list(summary["copying"]["x"]["text_scale"])
    lines = []
    for name, words in FACTOR_NAMES.items():
        found, can = summary["copying"][name], summary["estimator"][name]
        row = [text(found["text_scale"][scale]) for scale in scales]
        lines.append([words, *row, mark(found["1 minus 0"]), f"{can:.2f}"])
    columns = ["copied", *(f"text scale {scale}" for scale in scales), "1 minus 0", "reading on real pictures"]
    return f"{table(columns, lines)}\n\nReading on real pictures: correlation with the truth; of sides the share right."


def changes_table(summary: Summary) -> str:
    """What each text scale changes against 0."""
    lines = [
        [name, *(mark(found[measure]) for measure in ("likeness", "following", "both"))]
        for name, found in summary["text_scale_minus_decoupled"].items()
    ]
    return table(["minus text scale 0", "likeness", "prompt-following", "both in one picture"], lines)


def pairs_tables(summary: Summary) -> list[str]:
    """Every pair setting, over all pairs and over those of one noun, with what the text scale changes."""
    found, told = summary["pairs"], []
    true = ["true pictures", *(text(found["true pictures"][name]) for name in PAIR_MEASURES)]
    for kind in ("all pairs", "pairs of one noun"):
        if kind in found:
            lines = [[name, *(text(one[m]) for m in PAIR_MEASURES)] for name, one in found[kind].items()]
            told.append(table([kind, *PAIR_MEASURES], [*lines, true]))
            changes = found[f"{kind}, text scale 1 minus 0"]
            lines = [[mode, *(mark(one[m]) for m in PAIR_MEASURES)] for mode, one in changes.items()]
            told.append(table([f"{kind}: text scale 1 minus 0", *PAIR_MEASURES], lines))
    return told


def router_words(summary: Summary) -> str:
    """Shares and entropy in a sentence."""
    shares = ", ".join(text(one) for one in summary["router"]["shares"])
    return (
        f"The router gives the levels, from shallow to deep, {shares}; "
        f"entropy {text(summary['router']['entropy'])} (1: all alike, 0: one alone)."
    )


def settings_section(summary: Summary) -> str:
    """Every setting of single subjects, all prompts."""
    lines = []
    for group in summary["inference"]:
        lines += [[NAMES.get(group, group), *line] for line in settings_lines(summary["inference"], group)]
    return "## Every setting\n\n" + table(["", "setting", "likeness", "prompt-following", "both in one picture"], lines)
