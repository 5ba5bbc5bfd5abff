"""The inputs of a second concept and of places in the picture, and what they become."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.attention.regions import read_box
from ..dci_core.errors import BadSettings
from ..dci_core.text.places import has_names
from ..dci_core.text.stand_ins import stand_in_for
from . import sockets
from .fields import text
from .host.dci.pairs import Placed

ORDER = ("first", "second")


def several_inputs() -> list[Any]:
    """A second concept, and where each goes; they came later, so they stand after everything else."""
    found: list[Any] = [
        sockets.Concept.Input(
            "second_concept",
            optional=True,
            tooltip="A second concept for the same picture, loaded behind the first: model and CLIP of the first Load "
            "ICO Concept go into the second.",
        ),
        text(
            "second_noun",
            default="star",
            optional=True,
            tooltip="Ordinary word that stands in for the second concept; not the first one's. auto: one is chosen.",
        ),
    ]
    for which in ORDER:
        found.append(
            text(
                f"{which}_box",
                optional=True,
                tooltip=f"Where the {which} concept may be: left, right, top, bottom, or x y width height as shares "
                "of the picture, such as 0.1 0.2 0.4 0.5. Empty: anywhere.",
            )
        )
    for which in ORDER:
        found.append(
            io.Mask.Input(
                f"{which}_region",
                optional=True,
                tooltip=f"The same as a mask: the {which} concept may be where it is white.",
            )
        )
    return found


def in_order(
    concept: Any, prompt: str, nouns: tuple[str, str], several: dict[str, Any]
) -> tuple[Placed, Placed | None]:
    """The first concept, and the second where one is connected, each with its place; raises BadSettings.

    nouns  as written: what stands in for the first, and the auxiliary prompt in full
    """
    asked, whole = nouns
    second, other = several.get("second_concept"), several.get("second_noun") or ""
    taken = [] if second is None else [second.noun, other]
    noun = stand_in_for(asked, concept.noun, prompt, whole, taken, concept.family)
    first = Placed(concept, noun, region_of(several, ORDER[0]))
    if second is None:
        return first, None
    other = stand_in_for(other, second.noun, prompt, whole, [concept.noun, noun], second.family)
    return first, Placed(second, other, region_of(several, ORDER[1]))


def region_of(several: dict[str, Any], which: str) -> Any:
    """A concept's mask, or its box as one, or None; raises BadSettings where both came."""
    mask, box = several.get(f"{which}_region"), read_box(several.get(f"{which}_box") or "")
    if mask is not None and box is not None:
        raise BadSettings(
            f"the {which} concept has a box and a mask",
            "one of them is expected",
            "empty the box, or take the mask off",
        )
    return box if mask is None else mask


def check_single(prompt: str) -> None:
    """Raises BadSettings where a prompt names several concepts and one came."""
    if has_names(prompt):
        raise BadSettings(
            f'the prompt "{prompt}" names concepts, and one is connected',
            "a second concept is expected for {concept:b}",
            "connect second_concept, or write the trigger and noun",
        )
