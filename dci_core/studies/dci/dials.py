"""How pictures may be drawn from a trained concept, and the settings that each dial is given: as many for each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ...dci.branches import DciSettings
from ...dci.run import SampleSettings
from ...fingerprint import LATER
from ...tiny.defaults import TINY_DCI, TINY_SAMPLE

AuxiliaryPrompt = Literal["own", "shuffled", "concept"]
AUXILIARY = "cat"


@dataclass(frozen=True)
class Way:
    """All that decides a picture besides concept, prompt and seed; the defaults are plain sampling.

    concept_strength  of the key and value changes; the modifier tokens stay whole
    prompt_weight     of the concept's tokens, as the host weighs words: their hidden states between those of the
                      empty prompt (0) and their own (1)
    swap_window       the auxiliary prompt alone inside this window, on one branch without DBIM; 0 is off
    auxiliary         the ordinary noun of the second branch
    auxiliary_prompt  "own": the prompt with that noun; "shuffled": that of another prompt of the same concept;
                      "concept": the concept's own prompt
    negative_home     the words of the noun's home place as the negative prompt
    common            share of the key and value changes on words of the concept's prompt that are not its own
    others            the same on other prompts: the auxiliary and the empty one
    """

    sample: SampleSettings = TINY_SAMPLE
    dci: DciSettings | None = None
    concept_strength: float = 1.0
    prompt_weight: float = 1.0
    swap_window: float = 0.0
    auxiliary: str = AUXILIARY
    auxiliary_prompt: AuxiliaryPrompt = "own"
    negative_home: bool = False
    common: float = field(default=1.0, metadata=LATER)
    others: float = field(default=1.0, metadata=LATER)

    @property
    def is_everywhere(self) -> bool:
        """Whether the concept's changes act on every word, as they were trained."""
        return self.common == self.others == 1


@dataclass(frozen=True)
class Setting:
    """A way under the name it has in a table; step None: the ground's own checkpoint."""

    name: str
    way: Way
    step: int | None = None


WINDOWS = (0.1, 0.2, 0.3, 0.5)  # 2, 4, 6 and 10 of 20 steps
SHIFTED_WINDOWS = (0.2, 0.3, 0.5, 0.7)
SWAP_WINDOWS = (0.05, 0.1, 0.2, 0.3)  # the object is lost in longer ones
STRENGTHS = (0.3, 0.5, 0.7, 0.85)
CFGS = (2.0, 3.0, 6.0, 8.0)
PROMPT_WEIGHTS = (0.5, 0.7, 0.85, 1.2)


def plain(base: Way) -> Setting:
    """The way that every dial starts from."""
    return Setting("plain", base)


def with_dci(base: Way, defaults: DciSettings = TINY_DCI, /, **changes: object) -> Way:
    """The way with DCI at the small world's defaults but for these changes."""
    return replace(base, dci=replace(defaults, **changes))  # type: ignore[arg-type]


def dials(
    base: Way,
    earlier: tuple[int, ...] = (),
    defaults: DciSettings = TINY_DCI,
    swap_windows: tuple[float, ...] = SWAP_WINDOWS,
) -> dict[str, tuple[Setting, ...]]:
    """Per dial its settings; plain sampling belongs to every dial besides.

    base     plain sampling, which each setting changes in one thing
    earlier  steps of the checkpoints before the ground's own
    defaults, swap_windows  of the small world
    """
    return {
        "dci": tuple(Setting(f"window {w:g}", with_dci(base, defaults, window=w)) for w in WINDOWS),
        "strength_dial": tuple(
            Setting(f"concept strength {s:g}", replace(base, concept_strength=s)) for s in STRENGTHS
        ),
        "cfg_dial": tuple(Setting(f"CFG {c:g}", replace(base, sample=replace(base.sample, cfg=c))) for c in CFGS),
        "prompt_weight_dial": tuple(
            Setting(f"prompt weight {w:g}", replace(base, prompt_weight=w)) for w in PROMPT_WEIGHTS
        ),
        "checkpoint_dial": tuple(Setting(f"step {s}", base, s) for s in earlier),
        "prompt_swap_dial": tuple(Setting(f"swap {w:g}", replace(base, swap_window=w)) for w in swap_windows),
    }


def shifted(base: Way, strength: float, window: float) -> Setting:
    """DCI with its strength as a shift of the balance."""
    name = f"strength {strength:g}, window {window:g}"
    return Setting(name, with_dci(base, form="shift", strength=strength, window=window))


def shifted_dials(base: Way) -> dict[str, tuple[Setting, ...]]:
    """DCI with its strength as a shift: by window, as chosen on development objects, and as far as it reaches."""
    return {
        "dci_shifted": tuple(shifted(base, 2.0, window) for window in SHIFTED_WINDOWS),
        "dci_wide": tuple(shifted(base, *both) for both in ((2.0, 0.3), (2.0, 0.5), (2.5, 0.5), (3.5, 0.5))),
    }


def controls(base: Way, defaults: DciSettings = TINY_DCI) -> tuple[Setting, ...]:
    """What must not be as good as DCI if its parts matter, each beside DCI at its defaults."""
    dci = with_dci(base, defaults)
    return (
        Setting("DCI at its defaults", dci),
        Setting("auxiliary prompt shuffled", replace(dci, auxiliary_prompt="shuffled")),
        Setting("auxiliary prompt is the concept's", replace(dci, auxiliary_prompt="concept")),
        Setting("weights fixed at one half", with_dci(base, defaults, fixed_weight=0.5)),
        Setting("prompt swap, no DBIM", replace(base, swap_window=0.3)),
        Setting("auxiliary mask inverted", with_dci(base, defaults, inverts_noun=True)),
        Setting("negative prompt: the home place", replace(base, negative_home=True)),
    )
