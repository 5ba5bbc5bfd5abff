"""The inputs of DCI that the patch and the one-node sampler share, and what they become."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.dci.branches import GAINS, GUIDANCE, DciSettings, usual_guidance
from . import sockets
from .fields import widget
from .host.dci.branching import with_dci
from .host.dci.plan import HINTS, DbimLayers, DciPatch
from .host.dci.together import together_of
from .host.families.recognition import family_of

DEFAULTS = DciSettings()
AUTO = "auto"  # the guidance that is usual for the model's family


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
            options=[AUTO, *GUIDANCE],
            default=AUTO,
            tooltip="auto: shared on U-Nets, aligned on flows. shared: half again the cost inside the window; pulls "
            "both pictures together, needs enough steps. separate: twice the cost. aligned: separate, but both start "
            "from the same noise.",
        ),
        widget(
            io.Combo,
            "gain",
            options=list(GAINS),
            default=DEFAULTS.gain,
            advanced=True,
            tooltip="reference: the paper's constant, made for SD 1.x at 512 px. scaled: the same decisiveness at any "
            "size and in SDXL. shifted: scaled, with the strength as a shift, which keeps the maps' contrast.",
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


def sharing_inputs() -> list[Any]:
    """How one auxiliary branch serves many pictures; they came later, so they stand after everything else."""
    return [
        widget(
            io.Boolean,
            "one_auxiliary",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Separate guidance alone: one auxiliary picture serves the whole batch, which is cheaper. Each "
            "picture's auxiliary then saw the noise of the first.",
        ),
        widget(
            io.Int,
            "auxiliary_seed",
            default=-1,
            min=-1,
            max=2**63 - 1,
            optional=True,
            advanced=True,
            tooltip="Seed of the auxiliary branch's noise; -1 derives it from the sampler's seed. Fixed, one auxiliary "
            "picture can serve many seeds. Not used by aligned guidance at the start.",
        ),
        widget(
            io.Boolean,
            "replay",
            default=False,
            optional=True,
            advanced=True,
            tooltip="Separate and aligned guidance: keep the auxiliary branch's work in memory, at most 1 GiB, so that "
            "later queues with another strength or region, or another seed if the auxiliary's is fixed, do not pay for "
            "it again.",
        ),
    ]


def patched(model: Any, plan: Any, dci: dict[str, Any]) -> tuple[Any, Any]:
    """(MODEL with DCI, its record) from the widgets' values."""
    settings = settings_of(model, dci)
    family, together = family_of(model), together_of(model, plan)
    replays = dci.get("replay", False) and settings.guidance != "shared" and together is None
    patch = DciPatch(plan, settings, settings.dbim(family), dci["hints"], replays, together, family.layers)
    return with_dci(model, patch)


def settings_of(model: Any, dci: dict[str, Any]) -> DciSettings:
    """The core's settings from the widgets' values, for this model."""
    layers = dci.get("layers") or DbimLayers()
    return DciSettings(
        window=dci["window"],
        strength=dci["strength"],
        guidance=guidance_of(model, dci["guidance"]),
        gain=dci["gain"],
        layers=layers.mask,
        region=layers.region,
        one_auxiliary=dci.get("one_auxiliary", False),
        auxiliary_seed=None if dci.get("auxiliary_seed", -1) < 0 else dci["auxiliary_seed"],
    )


def guidance_of(model: Any, chosen: str) -> Any:
    """The guidance mode that the widget names, `auto` by the model's family; raises BadModel."""
    return usual_guidance(family_of(model)) if chosen == AUTO else chosen
