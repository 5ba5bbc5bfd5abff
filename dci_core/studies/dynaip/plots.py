"""The adapter study's plots, from its summary alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..dci.plot_style import COLOURS, DIALS, FAINT, MARKS, WHOLE, dots, finish
from ..dci.plots import SHARE, dial_marks
from ..dci.summary import AT_SHARE
from .ways import NO_REFERENCE

Summary = Mapping[str, Any]
PALETTE = list(COLOURS.values())
NAMES = {
    "adapter": "decoupled (text scale 0), scale 0.4 to 1.2",
    "trained_wiring": "as trained (text scale 1), scale 0.4 to 1.2",
    "last_level": "deepest level alone, scale 0.4 to 1.2",
    "three_references": "three references, scale 0.4 to 1.2",
    "text_scale": "text scale 0 to 1",
    "granularity": "granularity -1 to 1",
    "last_layer": "last-layer adapter, scale 0.4 to 1.2",
}
LOOKS = {name: (COLOURS[dial], MARKS[dial]) for name, dial in zip(NAMES, (*DIALS, WHOLE), strict=True)}
FACTOR_NAMES = {"x": "horizontal place", "size": "size", "side": "side it looks to", "light": "light"}


def draw_plots(summary: Summary, folder: Path) -> list[str]:
    """Names of the PNG files that now stand in the folder."""
    makers: dict[str, Callable[[Summary], Figure]] = {
        "frontier.png": frontier_plot,
        "reach.png": reach_plot,
        "text_scale.png": text_scale_plot,
        "granularity.png": granularity_plot,
        "pairs.png": pairs_plot,
        "router.png": router_plot,
    }
    for name, make in makers.items():
        make(summary).savefig(folder / name, dpi=130)
    return list(makers)


def methods_of(summary: Summary) -> list[str]:
    """The methods that were measured, in the order of NAMES."""
    return [name for name in NAMES if name in summary["inference"]]


def best_likeness(settings: Summary) -> float:
    """Of any setting of any method."""
    return max(one["likeness"]["value"] for name in NAMES if name in settings for one in settings[name].values())


def frontier_plot(summary: Summary) -> Figure:
    """Likeness against prompt-following of every method, all from the same noise."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    panels = figure.subplots(1, 2)
    parts = {"All prompts": summary, "Low-prior prompts: the base never saw the noun so": summary["low_prior"]}
    for axes, (title, part) in zip(panels, parts.items(), strict=True):
        settings = part["inference"]
        start = settings[NO_REFERENCE][NO_REFERENCE]
        at = (start["likeness"]["value"], start["following"]["value"])
        for name in methods_of(summary):
            dial_marks(axes, settings[name], at, *LOOKS[name], NAMES[name])
        axes.plot(*at, marker="*", color="black", ms=15, ls="none", label=NO_REFERENCE, zorder=5)
        axes.axvline(SHARE * best_likeness(settings), color=FAINT, ls=":", lw=1.2, label="95% of the best likeness")
        axes.set(xlabel="likeness", ylabel="prompt-following", title=title)
        axes.margins(0.08)
        finish(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def reach_plot(summary: Summary) -> Figure:
    """Hypervolume and prompt-following at 95% of the best likeness, with intervals."""
    figure, names = Figure(figsize=(12, 5.8), layout="constrained"), methods_of(summary)
    panels = figure.subplots(2, 2, sharey=True, sharex="col")
    parts = {"All prompts": summary, "Low-prior prompts": summary["low_prior"]}
    numbers = {"hypervolume": "hypervolume", AT_SHARE: "prompt-following at 95% of the best likeness"}
    for row, (title, part) in zip(panels, parts.items(), strict=True):
        for axes, (number, words) in zip(row, numbers.items(), strict=True):
            dots(axes, {NAMES[name]: part[number][name] for name in names}, [LOOKS[name][0] for name in names])
            axes.set_title(f"{title}: {words}", fontsize=10)
    return figure


def course(axes: Axes, found: Mapping[float, Summary], colour: str, label: str) -> None:
    """A number over a dial, with its interval."""
    values = list(found.values())
    axes.plot(list(found), [n["value"] for n in values], marker="o", color=colour, label=label)
    low, high = ([n[end] for n in values] for end in ("low", "high"))
    axes.fill_between(list(found), low, high, color=colour, alpha=0.12, lw=0)


def dial_course(axes: Axes, settings: Summary, words: str) -> None:
    """Likeness, prompt-following and both over a dial whose value ends each setting's name."""
    measures = {"likeness": "likeness", "following": "prompt-following", "both": "both in one picture"}
    for (measure, told), colour in zip(measures.items(), ("black", PALETTE[0], PALETTE[2]), strict=True):
        course(axes, {float(name.split()[-1]): one[measure] for name, one in settings.items()}, colour, told)
    axes.set(xlabel=words, ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9)
    finish(axes)


def text_scale_plot(summary: Summary) -> Figure:
    """What text rows bring: likeness and following on the left, copying of pose and light on the right."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    dial_course(left, summary["inference"]["text_scale"], "text scale (0: decoupled, 1: as trained)")
    for (name, told), colour in zip(FACTOR_NAMES.items(), PALETTE, strict=False):
        found = summary["copying"][name]["text_scale"]
        course(right, {float(scale): one for scale, one in found.items()}, colour, told)
    right.axhline(0, color=FAINT, lw=1)
    right.set(xlabel="text scale", ylabel="copied from the reference (0 nothing, 1 all)")
    right.legend(frameon=False, fontsize=9)
    finish(right)
    return figure


def granularity_plot(summary: Summary) -> Figure:
    """Likeness and following from texture to meaning."""
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    words = "granularity (-1: shallow levels, texture; 1: deep levels, meaning)"
    dial_course(figure.subplots(), summary["inference"]["granularity"], words)
    return figure


def pairs_plot(summary: Summary) -> Figure:
    """Two subjects: likeness to their own reference and to the other's, by mode and text scale."""
    kinds = [kind for kind in ("all pairs", "pairs of one noun") if kind in summary["pairs"]]
    figure = Figure(figsize=(6 * len(kinds), 4.2), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        found = {**summary["pairs"][kind], "true pictures": summary["pairs"]["true pictures"]}
        for measure, colour, shift, told in (
            ("own", "black", 0.15, "likeness to its own reference"),
            ("leak", PALETTE[2], -0.15, "leak: likeness to the other's"),
        ):
            dots(axes, {name: one[measure] for name, one in found.items()}, [colour] * len(found), shift, told)
        axes.set(xlim=(-0.02, 1.02), title=kind)
    panels[0].legend(frameon=False, fontsize=9)
    return figure


def router_plot(summary: Summary) -> Figure:
    """The router's mean share of each level, and its entropy."""
    figure, router = Figure(figsize=(6, 2.6), layout="constrained"), summary["router"]
    found = {f"share of level {i + 1}": one for i, one in enumerate(router["shares"])}
    axes = figure.subplots()
    dots(axes, {**found, "entropy (1: all alike)": router["entropy"]}, ["black"] * len(found) + [PALETTE[0]])
    axes.set(xlim=(-0.02, 1.02), title="levels from shallow to deep")
    return figure
