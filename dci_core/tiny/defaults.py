"""The small world's default settings, in one place. Measured on its development concepts, not on SD or SDXL."""

from __future__ import annotations

from ..dci.branches import DciSettings
from ..dci.run import SampleSettings
from ..ico.settings import IcoSettings

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
