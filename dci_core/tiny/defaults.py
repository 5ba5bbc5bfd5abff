"""The small worlds' default settings, in one place. Measured on their own concepts, not on SD, SDXL or Flux."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..dci.branches import DciSettings
from ..dci.run import SampleSettings
from ..ico.settings import IcoSettings

UNET, FLOW = "unet", "flow"  # the two small worlds: a U-Net, and an MM-DiT that is a rectified flow

TINY_ICO = IcoSettings(
    steps=160,
    batch=2,
    learning_rate=1e-3,
    scale_rate=False,
    context_factor=5.0,
    modifier_tokens=3,
    prior="teacher",
)
TINY_SAMPLE = SampleSettings(num_steps=20, cfg=4.0, sampler="dpmpp_2m")
TINY_DCI = DciSettings(window=0.5, strength=2.0, guidance="aligned", gain="scaled")


TINY_FLOW_ICO = replace(TINY_ICO, steps=240, batch=4)
TINY_FLOW_SAMPLE = SampleSettings(num_steps=20, cfg=3.5, sampler="euler")
TINY_FLOW_DCI = DciSettings(window=0.3, strength=1.0, guidance="aligned", gain="scaled")


@dataclass(frozen=True)
class Defaults:
    """Of one small world: how a concept is learned, how a run steps, how DCI acts."""

    ico: IcoSettings
    sample: SampleSettings
    dci: DciSettings


DEFAULTS = {
    UNET: Defaults(TINY_ICO, TINY_SAMPLE, TINY_DCI),
    FLOW: Defaults(TINY_FLOW_ICO, TINY_FLOW_SAMPLE, TINY_FLOW_DCI),
}
