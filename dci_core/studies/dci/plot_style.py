"""How the plots look: one colour and mark for each dial, dots with intervals, quiet axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

COLOURS = {  # Okabe and Ito's, which colour-blind readers can tell apart
    "dci": "#0072B2",
    "strength_dial": "#E69F00",
    "cfg_dial": "#D55E00",
    "prompt_weight_dial": "#009E73",
    "checkpoint_dial": "#CC79A7",
    "prompt_swap_dial": "#7F7F7F",
    "whole_blend_dial": "#56B4E9",
    "dci_shifted": "#000080",
    "dci_wide": "#6A3D9A",
}
MARKS = {
    "dci": "o",
    "strength_dial": "s",
    "cfg_dial": "^",
    "prompt_weight_dial": "D",
    "checkpoint_dial": "v",
    "prompt_swap_dial": "X",
    "whole_blend_dial": "P",
    "dci_shifted": "p",
    "dci_wide": "h",
}
NAMES = {
    "dci": "DCI (window)",
    "dci_shifted": "DCI shifted (window)",
    "dci_wide": "DCI shifted, wide",
    "strength_dial": "concept strength",
    "cfg_dial": "CFG",
    "prompt_weight_dial": "prompt weight",
    "checkpoint_dial": "earlier checkpoint",
    "prompt_swap_dial": "prompt swap",
    "whole_blend_dial": "whole output blended",
    "ico": "ICO along its training",
    "fixed_template": "fixed template along its training",
}
OURS = ("dci", "dci_shifted", "dci_wide")
WHOLE = "whole_blend_dial"  # of joint attention alone
PLAIN = tuple(dial for dial in COLOURS if dial not in (*OURS, WHOLE))
DIALS = ("dci", *PLAIN)
FAINT = "#888888"
Numbers = Mapping[str, Any]


def dials_of(found: Mapping[str, object]) -> list[str]:
    """The dials among these, ours first."""
    return [name for name in (*OURS, *PLAIN, WHOLE) if name in found]


def name_of(method: str) -> str:
    """A method's name for people."""
    return NAMES.get(method, method)


def points_of(settings: Numbers) -> list[tuple[float, float]]:
    """(likeness, following) of every setting."""
    return [(one["likeness"]["value"], one["following"]["value"]) for one in settings.values()]


def finish(axes: Axes) -> None:
    """Quiet axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)


def dots(
    axes: Axes, found: Mapping[str, Numbers], colours: Sequence[str], shift: float = 0.0, label: str | None = None
) -> None:
    """A dot with its interval for each name, from top to bottom."""
    for place, (numbers, colour) in enumerate(zip(found.values(), colours, strict=True)):
        y = -place + shift
        axes.plot([numbers["low"], numbers["high"]], [y, y], color=colour, lw=2, solid_capstyle="round")
        axes.plot(numbers["value"], y, "o", color=colour, ms=6, label=label if place == 0 else None)
    axes.set_yticks([-place for place in range(len(found))], list(found))
    axes.set_ylim(-len(found) + 0.4, 0.6)
    finish(axes)
