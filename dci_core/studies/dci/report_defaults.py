"""Where every default of every family comes from: measured here, the released code, or arithmetic."""

from __future__ import annotations

from dataclasses import fields

from ...dci.branches import DciSettings
from ...dci.run import SampleSettings
from ...ico.settings import IcoSettings
from ...tiny.defaults import TINY_DCI, TINY_ICO, TINY_SAMPLE

MEASURED, RELEASED, ARITHMETIC, PLAIN, BY_HAND = (
    "measured on development concepts (`--study choice`)",
    "released code",
    "arithmetic",
    "a plain choice",
    "a first value, tried by hand on development concepts 0 and 3; not a search",
)
"""The five sources."""

OTHERS = {  # SD 1.x, SD 2.x and SDXL share these
    "DciSettings": {
        "window": RELEASED,
        "strength": f"{ARITHMETIC}: the balanced point of flat maps (the released 0 leans to the concept)",
        "guidance": RELEASED,
        "gain": f"{ARITHMETIC}: equals the released constant on SD 1.x at 512 px",
    },
    "IcoSettings": {
        "steps": RELEASED,
        "batch": RELEASED,
        "learning_rate": RELEASED,
        "scale_rate": RELEASED,
        "context_factor": RELEASED,
        "modifier_tokens": RELEASED,
        "positions": f"{ARITHMETIC}: training and inference see the same positions",
        "prior": f"{PLAIN}: no class pictures are needed",
    },
    "SampleSettings": {"num_steps": PLAIN, "cfg": RELEASED, "sampler": RELEASED},
}
TINY = {
    "window": f"{MEASURED}: with strength, most pictures with both object and scene; the higher likeness of equals",
    "strength": f"{MEASURED}, with the window",
    "guidance": f"{PLAIN}: its second branch shows the asked scene (study C finds the modes alike)",
    "gain": ARITHMETIC,
    "steps": BY_HAND,
    "batch": BY_HAND,
    "learning_rate": BY_HAND,
    "scale_rate": PLAIN,
    "context_factor": BY_HAND,
    "modifier_tokens": RELEASED,
    "positions": f"{ARITHMETIC}, as for the others",
    "prior": f"{PLAIN}, as for the others",
    "num_steps": PLAIN,
    "cfg": BY_HAND,
    "sampler": PLAIN,
}


def defaults_table() -> str:
    """A Markdown table with a row for each default."""
    lines = ["| default | tiny | comes from | SD 1.x, SD 2.x, SDXL | comes from |", "|---|---|---|---|---|"]
    for tiny, other in ((TINY_DCI, DciSettings()), (TINY_ICO, IcoSettings()), (TINY_SAMPLE, SampleSettings())):
        sources = OTHERS[type(other).__name__]
        for field in fields(other):
            if field.name in sources:
                own, theirs = getattr(tiny, field.name), getattr(other, field.name)
                name = field.name.replace("_", " ")
                lines.append(f"| {name} | {own} | {TINY[field.name]} | {theirs} | {sources[field.name]} |")
    return "\n".join(lines)
