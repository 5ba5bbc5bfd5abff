"""The study's one-page report in Markdown, from its summary alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .plot_style import OURS, PLAIN, dials_of, name_of
from .report_defaults import defaults_table
from .report_trials import choice_section, dial_section, equal_section, forms_section, layout_section, stop_section
from .report_words import AGAINST, WORDS, Summary, decided, mark, settings_lines, table, text

LEADS = HYPERVOLUME, AT_SHARE = "hypervolume", "prompt_following_at_95_likeness"
PLOTS = {
    "frontier.png": "What each dial reaches from the same checkpoint and noise",
    "reach.png": "Hypervolume, and prompt-following at 95% of plain likeness, with 95% intervals",
    "controls.png": "DCI and its controls against plain sampling",
    "training.png": "Training: ICO and fixed templates along the run; variants at the same step",
    "window.png": "The window at 10, 20 and 50 steps",
    "anatomy.png": "Layers, guidance, gain, strength, auxiliary noun, inverted mask",
    "guidance.png": "The two latents inside the window, and the spring factor's prediction",
}


def write_report(summary: Summary, plots: Sequence[str]) -> str:
    """The whole page: the answer first, then each study with its plots."""
    shown = partial(shown_plots, plots)
    parts = [head(summary)]
    if "inference" in summary:
        parts += [answer(summary), *shown("frontier.png", "reach.png"), reach_section(summary), leads_section(summary)]
        parts += [settings_section(summary), *shown("controls.png")]
    if "by_look" in summary:
        parts.append(by_look_section(summary))
    if "training" in summary:
        parts += [training_section(summary), *shown("training.png")]
    if "anatomy" in summary:
        parts += [anatomy_section(summary), *shown("window.png", "anatomy.png", "guidance.png")]
    if "judge" in summary:
        parts.append(judge_section(summary))
    if "choice" in summary:
        parts.append(choice_section(summary))
    if "forms" in summary:
        parts.append(forms_section(summary))
    if "dial" in summary:
        parts.append(dial_section(summary))
    if "equal_asked" in summary:
        parts.append(equal_section(summary))
    if "stopping" in summary:
        parts.append(stop_section(summary))
    if "layout" in summary:
        parts.append(layout_section(summary["layout"]))
    parts += ["## Where the defaults come from\n\n" + defaults_table(), METHOD]
    return "\n\n".join(parts) + "\n"


def shown_plots(plots: Sequence[str], *names: str) -> list[str]:
    """These plots with their captions, those of them that were drawn."""
    return [f"![{PLOTS[name]}]({name})\n\n*{PLOTS[name]}.*" for name in names if name in plots]


SHIFTED = (
    "DCI shifted: the strength as a shift of the balance, which keeps the maps' contrast, at 2 over the windows; wide: "
    "windows 0.3 and 0.5 at 2, then 0.5 at 2.5 and 3.5. Both were chosen on development objects (`--study dial`)."
)
METHOD = """## How it is measured

- Likeness, by the judge: 0 another object of the same kind, 1 the concept itself. Prompt-following: share of right
  answers on place and second object. Both in one picture: likeness of 0.7 or more, and everything asked is there.
- Every dial starts from the same checkpoint and noise and has four settings; plain sampling belongs to every dial.
- Hypervolume: the area under the staircase of a dial's means, from (0, 0). Prompt-following at 95% of plain likeness:
  read off straight lines between neighbours of the frontier.
- Concept strength: of the key and value changes, modifier tokens whole. Prompt weight: the concept's hidden states
  between those of the empty prompt and their own, as ComfyUI weighs words. Prompt swap: the auxiliary prompt inside the
  window, the concept's after it, one branch, no DBIM.
- Shuffled: the auxiliary prompt is that of the concept's next prompt, which asks for another place.
- The best plain dial is picked by the same pictures that are compared, which favours the dials, not DCI."""


def head(summary: Summary) -> str:
    """What was asked of whom."""
    if not {"inference", "training", "anatomy", "judge"} & set(summary):
        return (
            f"# Evidence ({summary['size']})\n\n"
            f"Tried on the small world, from ICO at step {summary['steps']} on {summary['kind']} references, with the "
            "same noise for every setting. Intervals: 95%, paired bootstrap clustered by concept, then prompt."
        )
    return (
        f"# Evidence ({summary['size']})\n\n"
        "At the same likeness, does DCI follow prompts better than simpler dials? Measured on the small world: "
        f"{len(summary['concepts'])} test concepts, 8 prompts each (half of them low-prior: the base never saw the "
        f"noun so), seeds: {summary['seeds']}, the same noise for every method, as many settings for each dial. "
        f"The dials start from ICO at step {summary['steps']} on {summary['kind']} references. "
        "Intervals: 95%, paired bootstrap clustered by concept, then prompt."
    )


def answer(summary: Summary) -> str:
    """The opening question answered for all prompts and for low-prior ones."""
    lines = [
        f"- {words}: {verdict(part, own)}"
        for own in ours(summary)
        for words, part in (("All prompts", summary), ("Low-prior prompts", summary["low_prior"]))
    ]
    return "## Answer\n\n" + "\n".join(lines)


def ours(summary: Summary) -> list[str]:
    """Our dials among the study's: the published form, and the shifted one where it was asked."""
    return [own for own in OURS if f"{own}_minus" in summary]


def verdict(part: Summary, own: str = "dci") -> str:
    """One of our dials against the best plain one at 95% of plain likeness, then against every other in hypervolume."""
    at = part[AT_SHARE]
    rivals = [dial for dial in dials_of(at) if dial != own]
    best = max((dial for dial in rivals if dial in PLAIN), key=lambda dial: at[dial]["value"])
    lead = part[f"{own}_minus"][best][AT_SHARE]
    told = (
        f"at 95% of plain likeness {short(own)} follows {text(at[own])} of what is asked, the best plain dial "
        f"({name_of(best)}) {text(at[best])}; the difference is {text(lead, '+')}: {decided(lead)}."
    )
    ahead = {d: decided(part[f"{own}_minus"][d][HYPERVOLUME]) for d in rivals}
    sides = {word: [name_of(d) for d, found in ahead.items() if found == word] for word in WORDS}
    told_of = {word: word.replace("DCI", short(own)) for word in WORDS}
    words = "; ".join(f"{told_of[word]} {AGAINST[word]}{', '.join(names)}" for word, names in sides.items() if names)
    return f"{told} By hypervolume: {words}."


def short(own: str) -> str:
    """`DCI`, or `DCI shifted`."""
    return name_of(own).split(" (")[0]


def reach_section(summary: Summary) -> str:
    """The two numbers of every dial, all prompts and low-prior ones."""
    low = summary["low_prior"]
    lines = []
    for dial in dials_of(summary[AT_SHARE]):
        lines.append(
            [name_of(dial), *(text(part[name][dial]) for part in (summary, low) for name in (HYPERVOLUME, AT_SHARE))]
        )
    for name in ("ico", "fixed_template"):
        if name in summary[HYPERVOLUME]:
            lines.append([name_of(name), text(summary[HYPERVOLUME][name]), "", "", ""])
    columns = ["", "hypervolume", "following at 95% likeness", "low-prior: hypervolume", "low-prior: following at 95%"]
    return "## What each dial reaches\n\n" + table(columns, lines)


def leads_section(summary: Summary) -> str:
    """Each of our dials minus every other, from the same pictures' draws, all prompts and low-prior ones."""
    tables = []
    for own in ours(summary):
        lines = []
        for dial in dials_of(summary[f"{own}_minus"]):
            found = [part[f"{own}_minus"][dial][name] for part in (summary, summary["low_prior"]) for name in LEADS]
            lines.append([name_of(dial), *(mark(lead) for lead in found)])
        numbers = ["hypervolume", "following at 95% likeness", "low-prior: hypervolume", "low-prior: at 95%"]
        tables.append(table([f"{short(own)} minus", *numbers], lines))
    told = "Bold where the interval leaves zero out."
    if len(tables) > 1:
        told += f" {SHIFTED}"
    return "\n\n".join(("## How far DCI is ahead of each plain dial", *tables, told))


def by_look_section(summary: Summary) -> str:
    """DCI's leads on objects whose looks the base never saw, and on the others."""
    parts = summary["by_look"]
    lines = [
        [name_of(dial), *(text(part["dci_minus"][dial][lead], "+") for part in parts.values() for lead in LEADS)]
        for dial in dials_of(next(iter(parts.values()))["dci_minus"])
    ]
    columns = ["DCI minus", *(f"{words}: {name}" for words in parts for name in ("hypervolume", "at 95%"))]
    return "## By what the base had seen\n\n" + table(columns, lines)


def settings_section(summary: Summary) -> str:
    """Plain sampling, every setting and the controls, all prompts."""
    lines = []
    for group in summary["inference"]:
        for line in settings_lines(summary["inference"], group):
            rare = summary["low_prior"]["inference"][group][line[0]]["both"]
            lines.append([name_of(group), *line, text(rare)])
    columns = ["dial", "setting", "likeness", "prompt-following", "both in one picture", "both, low-prior"]
    return "## Every setting, and the controls\n\n" + table(columns, lines)


def training_section(summary: Summary) -> str:
    """The curves and the variants."""
    lines = []
    for group in summary["training"]:
        lines += [[name_of(group), *line] for line in settings_lines(summary["training"], group)]
    return "## Training (study A)\n\n" + table(
        ["", "setting", "likeness", "prompt-following", "both in one picture"], lines
    )


def anatomy_section(summary: Summary) -> str:
    """Every question's settings, and what became of the two latents."""
    lines = []
    for group in summary["anatomy"]:
        lines += [[group, *line] for line in settings_lines(summary["anatomy"], group)]
    found = table(["question", "setting", "likeness", "prompt-following", "both in one picture"], lines)
    springs = [
        [
            f"{one['guidance']}, {one['steps']} steps, CFG {one['cfg']:g}",
            f"{one['correlation'][-1]:.2f}",
            f"{one['apart'][0]:.2f} to {one['apart'][-1]:.2g}",
            *spring_cells(one),
        ]
        for one in summary["guidance"]
    ]
    columns = ["guidance", "correlation after the window", "distance, start to end", "predicted end"]
    columns.append("first step's factor, measured (predicted)")
    return f"## Inside DCI (study C)\n\n{found}\n\n{table(columns, springs)}"


def spring_cells(one: Summary) -> list[str]:
    """What the spring factor says of shared guidance: the distance in the end, and the first step alone."""
    if "apart_predicted" not in one:
        return ["", ""]
    first, told = (one[name][1] / one[name][0] for name in ("apart", "apart_predicted"))
    return [f"{one['apart_predicted'][-1]:.2g}", f"{first:.2f} ({told:.2f})"]


def judge_section(summary: Summary) -> str:
    """The judge's gates and controls."""
    return "## The judge is judged\n\n" + gate_table(summary["judge"])


def gate_table(readings: Sequence[Summary]) -> str:
    """A line for each reading."""
    word = {None: "", True: "passed", False: "**failed**"}
    lines = [[one["gate"], one["what"], f"{one['value']:.3f}", one["asked"], word[one["passed"]]] for one in readings]
    return table(["gate", "what", "value", "asked", ""], lines)
