"""How pictures may be drawn with an adapter, and the settings that each method is given: five for each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...tiny.flow.sampling import FlowSettings

SCALES = (0.4, 0.6, 0.8, 1.0, 1.2)
TEXT_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
GRANULARITIES = (-1.0, -0.5, 0.0, 0.5, 1.0)
ONE, THREE = (1,), (1, 2, 3)  # of the five varied reference pictures; number 0, the noun's home, is left out
NO_REFERENCE = "no reference"


@dataclass(frozen=True)
class Way:
    """All that decides a picture besides concept, prompt and seed; the defaults draw without a reference.

    adapter     fingerprint of the adapter's file; "" for none
    references  numbers of the concept's varied reference pictures that are read
    cut_out     they are shown on white, cut by the renderer's own mask
    stranger    they show another object of the same noun: a control
    scale, text_scale, granularity  as the image prompt's; text scale 0 is decoupling (fact 3), 1 the trained wiring
    last_level  the deepest level alone, level weights (0, .., 0, 1)
    """

    sample: FlowSettings = field(default_factory=FlowSettings)
    adapter: str = ""
    references: tuple[int, ...] = ONE
    cut_out: bool = False
    stranger: bool = False
    scale: float = 1.0
    text_scale: float = 0.0
    granularity: float = 0.0
    last_level: bool = False


@dataclass(frozen=True)
class Setting:
    """A way under the name it has in a table."""

    name: str
    way: Way


@dataclass(frozen=True)
class Adapters:
    """Fingerprints of the adapters on trial; last_layer: a separately trained one of one level, if there is one."""

    main: str
    last_layer: str | None = None


def scale_dial(base: Way) -> tuple[Setting, ...]:
    """The way at every scale."""
    return tuple(Setting(f"scale {s:g}", replace(base, scale=s)) for s in SCALES)


def methods(sample: FlowSettings, adapters: Adapters) -> dict[str, tuple[Setting, ...]]:
    """Per method its settings; drawing without a reference belongs to every method besides."""
    base = Way(sample, adapters.main)
    found = {
        "adapter": scale_dial(base),
        "trained_wiring": scale_dial(replace(base, text_scale=1.0)),
        "last_level": scale_dial(replace(base, last_level=True)),
        "three_references": scale_dial(replace(base, references=THREE)),
        "text_scale": tuple(Setting(f"text scale {t:g}", replace(base, text_scale=t)) for t in TEXT_SCALES),
        "granularity": tuple(Setting(f"granularity {g:g}", replace(base, granularity=g)) for g in GRANULARITIES),
    }
    if adapters.last_layer is not None:
        found["last_layer"] = scale_dial(replace(base, adapter=adapters.last_layer))
    return found


def controls(sample: FlowSettings, adapters: Adapters) -> tuple[Setting, ...]:
    """References without their background, and those of a stranger, which must not give likeness."""
    base = Way(sample, adapters.main)
    return (
        Setting("1 reference, cut out", replace(base, cut_out=True)),
        Setting("3 references, cut out", replace(base, cut_out=True, references=THREE)),
        Setting("a stranger's reference", replace(base, stranger=True)),
    )


def groups(sample: FlowSettings, adapters: Adapters) -> dict[str, tuple[Setting, ...]]:
    """Everything that is drawn of single subjects."""
    plain = {NO_REFERENCE: (Setting(NO_REFERENCE, Way(sample)),)}
    return {**plain, **methods(sample, adapters), "control": controls(sample, adapters)}
