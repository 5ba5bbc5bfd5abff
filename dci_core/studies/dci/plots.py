"""The study's plots, from its summary alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .plot_style import COLOURS, FAINT, MARKS, dials_of, dots, finish, name_of, points_of
from .statistics import frontier

Summary = Mapping[str, Any]
SHARE = 0.95


def draw_plots(summary: Summary, folder: Path) -> list[str]:
    """Names of the PNG files that now stand in the folder; a study that was not asked for has none."""
    makers: dict[str, tuple[str, Callable[[Summary], Figure]]] = {
        "frontier.png": ("inference", frontier_plot),
        "reach.png": ("inference", reach_plot),
        "controls.png": ("controls", controls_plot),
        "training.png": ("training", training_plot),
        "window.png": ("anatomy", window_plot),
        "anatomy.png": ("anatomy", anatomy_plot),
        "guidance.png": ("guidance", guidance_plot),
    }
    drawn = []
    for name, (part, make) in makers.items():
        if part in summary:
            make(summary).savefig(folder / name, dpi=130)
            drawn.append(name)
    return drawn


def frontier_plot(summary: Summary) -> Figure:
    """Likeness against prompt-following, every dial from the same plain point."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    frontier_panel(left, summary["inference"], "All prompts")
    frontier_panel(right, summary["low_prior"]["inference"], "Low-prior prompts: the base never saw the noun so")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def frontier_panel(axes: Axes, settings: Summary, title: str) -> None:
    """One set of prompts: every setting as a mark, those of the frontier joined."""
    plain = settings["plain"]["plain"]
    at = (plain["likeness"]["value"], plain["following"]["value"])
    for dial in dials_of(settings):
        dial_marks(axes, settings[dial], at, COLOURS[dial], MARKS[dial], name_of(dial))
    axes.plot(*at, marker="*", color="black", ms=15, ls="none", label="plain sampling", zorder=5)
    axes.axvline(SHARE * at[0], color=FAINT, ls=":", lw=1.2)
    axes.annotate(
        "95% of plain likeness",
        (SHARE * at[0], 0.02),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="right",
        fontsize=8,
        color=FAINT,
    )
    axes.set(xlabel="likeness", ylabel="prompt-following", title=title)
    axes.margins(0.08)
    finish(axes)


def dial_marks(axes: Axes, settings: Summary, at: tuple[float, float], colour: str, mark: str, label: str) -> None:
    """One dial: every setting as a mark, those of its frontier joined; `at` belongs to every dial."""
    points = [*points_of(settings), at]
    axes.plot(*zip(*points, strict=True), mark, color=colour, ms=7, alpha=0.55)
    axes.plot(*zip(*frontier(points), strict=True), marker=mark, color=colour, label=label, lw=1.8, ms=7)


def reach_plot(summary: Summary) -> Figure:
    """Hypervolume and prompt-following at 95% of plain likeness, with intervals."""
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True, sharex="col")
    parts = (("All prompts", summary), ("Low-prior prompts", summary["low_prior"]))
    numbers = (
        ("hypervolume", "hypervolume of the frontier"),
        ("prompt_following_at_95_likeness", "prompt-following at 95% of plain likeness"),
    )
    for row, (title, part) in zip(panels, parts, strict=True):
        for axes, (name, words) in zip(row, numbers, strict=True):
            dials = dials_of(part[name])
            dots(axes, {name_of(dial): part[name][dial] for dial in dials}, [COLOURS[dial] for dial in dials])
            axes.set_title(f"{title}: {words}", fontsize=9)
    return figure


def controls_plot(summary: Summary) -> Figure:
    """DCI and its controls: difference from plain sampling, same noise."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    words = {"following": "prompt-following", "likeness": "likeness", "both": "share of pictures with both"}
    for axes, (name, told) in zip(panels, words.items(), strict=True):
        found = {control: numbers[name] for control, numbers in summary["controls"].items()}
        dots(axes, found, [COLOURS["dci"]] + ["black"] * (len(found) - 1))
        axes.axvline(0, color=FAINT, lw=1)
        axes.set(xlabel=f"{told}, minus plain")
    return figure


def training_plot(summary: Summary) -> Figure:
    """ICO and fixed templates along the run, and the variants at the ground's checkpoint."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    names = {"ico": ("ICO", COLOURS["dci"]), "fixed_template": ("fixed template", COLOURS["cfg_dial"])}
    for group, (label, colour) in names.items():
        settings = summary["training"][group]
        steps = [int(name.split()[-1]) for name in settings]
        for axes, measure in zip(panels, ("likeness", "following"), strict=False):
            found = [numbers[measure] for numbers in settings.values()]
            axes.plot(steps, [n["value"] for n in found], marker="o", color=colour, label=label)
            axes.fill_between(
                steps, [n["low"] for n in found], [n["high"] for n in found], color=colour, alpha=0.15, lw=0
            )
    for axes, told in zip(panels, ("likeness", "prompt-following"), strict=False):
        axes.axvline(summary["steps"], color=FAINT, ls=":", lw=1.2)
        axes.set(xlabel="training steps (dotted: the ground)", ylabel=told, ylim=(0, 1.02))
        finish(axes)
    panels[0].legend(frameon=False, loc="lower right")
    variants_panel(panels[2], summary["training"]["variant"])
    return figure


def variants_panel(axes: Axes, variants: Summary) -> None:
    """Likeness and following of each variant, side by side."""
    for measure, colour, shift, told in (
        ("likeness", "black", 0.15, "likeness"),
        ("following", COLOURS["dci"], -0.15, "prompt-following"),
    ):
        dots(
            axes, {name: numbers[measure] for name, numbers in variants.items()}, [colour] * len(variants), shift, told
        )
    axes.set(xlim=(0, 1.02), xlabel="variants of the ground, one change each")
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def window_plot(summary: Summary) -> Figure:
    """Likeness and following over the window, at three step counts."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 3)
    courses: dict[str, list[tuple[float, Summary]]] = {}
    for name, numbers in summary["anatomy"]["window"].items():
        steps, window = name.split(", window ")
        courses.setdefault(steps, []).append((float(window), numbers))
    measures = {"likeness": "likeness", "following": "prompt-following", "both": "share of pictures with both"}
    for axes, (measure, told) in zip(panels, measures.items(), strict=True):
        for (steps, course), colour in zip(courses.items(), COLOURS.values(), strict=False):
            windows = [window for window, _ in course]
            found = [numbers[measure] for _, numbers in course]
            axes.plot(windows, [n["value"] for n in found], marker="o", color=colour, label=steps)
            axes.fill_between(
                windows, [n["low"] for n in found], [n["high"] for n in found], color=colour, alpha=0.1, lw=0
            )
        axes.set(xlabel="window (0: plain sampling)", ylabel=told, ylim=(0, 1.02))
        finish(axes)
    panels[0].legend(frameon=False)
    return figure


def anatomy_plot(summary: Summary) -> Figure:
    """Every question of study C but the window: likeness and following of each setting."""
    groups = [name for name in summary["anatomy"] if name not in ("plain", "window")]
    heights = [len(summary["anatomy"][name]) for name in groups]
    half = (len(groups) + 1) // 2
    figure = Figure(figsize=(11, 0.42 * max(sum(heights[:half]), sum(heights[half:])) + 2.2), layout="constrained")
    columns = figure.subfigures(1, 2, squeeze=False)[0]
    for column, part in zip(columns, (groups[:half], groups[half:]), strict=True):
        panels = column.subplots(
            len(part), 1, height_ratios=[len(summary["anatomy"][name]) for name in part], squeeze=False
        )
        for axes, name in zip(panels[:, 0], part, strict=True):
            group_panel(axes, name, summary["anatomy"][name], summary["anatomy"]["plain"]["plain"])
    figure.suptitle("black: likeness; blue: prompt-following; dotted: plain sampling", fontsize=10)
    return figure


def group_panel(axes: Axes, title: str, settings: Summary, plain: Summary) -> None:
    """One question."""
    for measure, colour, shift in (("likeness", "black", 0.15), ("following", COLOURS["dci"], -0.15)):
        dots(axes, {name: numbers[measure] for name, numbers in settings.items()}, [colour] * len(settings), shift)
        axes.axvline(plain[measure]["value"], color=colour, ls=":", lw=1)
    axes.set(xlim=(0, 1.02))
    axes.set_title(title, fontsize=10, loc="left")


def guidance_plot(summary: Summary) -> Figure:
    """The two latents through the window: measured, and what the spring factor predicts for shared guidance."""
    found: Sequence[Summary] = summary["guidance"]
    counts = sorted({one["steps"] for one in found})
    cfgs = sorted({one["cfg"] for one in found})
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(2, len(counts), sharey="row", sharex="col")
    modes = {"shared": COLOURS["dci"], "separate": COLOURS["cfg_dial"], "aligned": COLOURS["strength_dial"]}
    for column, count in enumerate(counts):
        for one in found:
            if one["steps"] != count:
                continue
            style, steps = "-" if one["cfg"] == cfgs[0] else "--", range(len(one["apart"]))
            label = f"{one['guidance']}, CFG {one['cfg']:g}"
            panels[0, column].plot(steps, one["correlation"], style, color=modes[one["guidance"]], label=label)
            panels[1, column].plot(steps, one["apart"], style, color=modes[one["guidance"]])
            if "apart_predicted" in one:
                mark = "o" if one["cfg"] == cfgs[0] else "x"
                panels[1, column].plot(
                    steps,
                    one["apart_predicted"],
                    mark,
                    color="black",
                    ms=5,
                    mfc="none",
                    label=f"predicted, CFG {one['cfg']:g}",
                )
        panels[0, column].set(title=f"{count} steps", ylim=(-1.05, 1.05))
        panels[1, column].set(xlabel="steps of DDIM inside a window of 0.5", yscale="log", ylim=(1e-3, 3e2))
        finish(panels[0, column])
        finish(panels[1, column])
    panels[0, 0].set_ylabel("correlation of the two latents")
    panels[1, 0].set_ylabel("distance (RMS)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    more = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles + more[0], labels + more[1], loc="outside lower center", ncols=4, frameon=False)
    return figure
