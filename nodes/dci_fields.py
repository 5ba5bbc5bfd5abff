"""The inputs of DCI that the patch and the one-node sampler share, and what they become."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.branches import GAINS, GUIDANCE, DciSettings
from . import sockets
from .fields import widget
from .host.branching import with_dci
from .host.families import family_of
from .host.plan import HINTS, DbimLayers, DciPatch

DEFAULTS = DciSettings()


def dci_inputs() -> list[Any]:
    """The inputs of DCI that the patch and the one-node sampler share."""
    return [
        widget(
            io.Float,
            "window",
            default=DEFAULTS.window,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the noise schedule, from its noisy end, in which DCI acts; 0 is off, 0.3 usual. Not a "
            "share of the steps.",
        ),
        widget(
            io.Float,
            "strength",
            default=DEFAULTS.strength,
            min=-10.0,
            max=10.0,
            step=0.05,
            tooltip="How much room the scene gets: 1 is balanced, larger gives the auxiliary prompt more, smaller the "
            "concept. Useful from about -2 to 2. 0 is a neutral blend, not off.",
        ),
        widget(
            io.Combo,
            "guidance",
            options=list(GUIDANCE),
            default=DEFAULTS.guidance,
            tooltip="shared: half again the cost inside the window; pulls both pictures together, needs enough steps. "
            "separate: twice the cost. aligned: separate, but both start from the same noise.",
        ),
        widget(
            io.Combo,
            "gain",
            options=list(GAINS),
            default=DEFAULTS.gain,
            advanced=True,
            tooltip="reference: the paper's constant, made for SD 1.x at 512 px. scaled: the same decisiveness at any "
            "size and in SDXL.",
        ),
        sockets.Layers.Input(
            "layers", optional=True, tooltip="Which layers integrate, and how far; nothing connected: all, fully."
        ),
        widget(
            io.Combo,
            "hints",
            options=list(HINTS),
            default="both",
            advanced=True,
            tooltip="Which branch a ControlNet in the prompt acts on.",
        ),
    ]


def patched(model: Any, plan: Any, dci: dict[str, Any]) -> tuple[Any, Any]:
    """(MODEL with DCI, its record) from the widgets' values."""
    layers = dci.get("layers") or DbimLayers()
    settings = DciSettings(
        window=dci["window"],
        strength=dci["strength"],
        guidance=dci["guidance"],
        gain=dci["gain"],
        layers=layers.mask,
        region=layers.region,
    )
    dbim = settings.dbim(family_of(model))
    return with_dci(model, DciPatch(plan, settings, dbim, dci["hints"]))
