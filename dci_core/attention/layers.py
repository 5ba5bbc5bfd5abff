"""Names of the layers that read text, and the share with which each integrates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import BadLayers


class LayerId(NamedTuple):
    """One layer that reads text, numbered as the host numbers its blocks: a cross-attention, or a joint attention.

    stage  "input", "middle" or "output"; "double", "single", "joint", "context" or "layer" of joint attentions; "block"
           where a transformer's blocks have a cross-attention; "refiner" where the text is alone
    block  index among the blocks of that stage; 0 in the middle
    index  position among the block's transformer blocks
    """

    stage: str
    block: int
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a layer


COARSE_TOKENS = 256  # SD 1.x at 512 px: its 16 x 16 and 8 x 8 layers decide, the larger ones only lean (notes, 3.1)
SHORT = {"input": "in", "middle": "mid", "output": "out"} | {
    stage: stage for stage in ("double", "single", "joint", "context", "layer", "block")
}
STAGES = {name: stage for stage, short in SHORT.items() for name in (short, stage)}
PRESETS = ("all", "encoder", "middle", "decoder", "coarse", "fine")
ITEM = re.compile(r"(?P<name>[a-z]+)(?:(?P<first>\d+)(?:-(?P<last>\d+))?)?(?:\.(?P<index>\d+))?(?::(?P<share>[^:]+))?")


def preset_layers(name: str, reference_tokens: Mapping[LayerId, int]) -> list[LayerId]:
    """The layers that a preset's name stands for.

    reference_tokens  per layer of the family, image tokens of SD 1.x's layer at the same place
    """
    chooses: dict[str, Callable[[LayerId], bool]] = {
        "all": lambda layer: True,
        "encoder": lambda layer: layer.stage == "input",
        "middle": lambda layer: layer.stage == "middle",
        "decoder": lambda layer: layer.stage == "output",
        "coarse": lambda layer: reference_tokens[layer] <= COARSE_TOKENS,
        "fine": lambda layer: reference_tokens[layer] > COARSE_TOKENS,
    }
    return [layer for layer in reference_tokens if chooses[name](layer)]


@dataclass(frozen=True)
class LayerMask:
    """Which layers integrate, and how far, as text: `all`, `coarse`, `in4-8:1.0 mid:0.5 out3-5:0`, `all mid:0`.

    Items stand between blanks or commas, later ones override earlier ones, and a layer that none names is left plain.
    An item is a preset (all, encoder, middle, decoder, coarse, fine) or a stage (in, mid, out; double, single; joint;
    context; layer; block) with a block or a range of blocks and, where a block has several, `.index`; then `:share` in
    0..1, 1 if left out.
    """

    text: str = "all"

    def shares(self, reference_tokens: Mapping[LayerId, int]) -> dict[LayerId, float]:
        """The share of each layer named, in the family's order; raises BadLayers where an item names none."""
        items = self.text.lower().replace(",", " ").split()
        if not items:
            raise BadLayers(
                "the layer text is empty", "at least one item is expected", "write `all`, or `in4-8:1.0 mid:0.5`"
            )
        named: dict[LayerId, float] = {}
        for item in items:
            layers, share = read_item(item, reference_tokens)
            named.update(dict.fromkeys(layers, share))
        return {layer: named[layer] for layer in reference_tokens if layer in named}


def read_item(item: str, reference_tokens: Mapping[LayerId, int]) -> tuple[list[LayerId], float]:
    """(layers, share) of one item of a layer text."""
    found = ITEM.fullmatch(item)
    name = found["name"] if found else ""
    is_preset = found is not None and name in PRESETS and found["first"] is None and found["index"] is None
    if found is None or not (is_preset or name in STAGES):
        raise BadLayers(
            f"the layer text holds {item!r}",
            f"a preset ({', '.join(PRESETS)}) or a stage with blocks (in4, out3-5, mid) is expected",
            "correct that item",
        )
    layers = preset_layers(name, reference_tokens) if is_preset else stage_layers(found, list(reference_tokens))
    if not layers:
        raise BadLayers(
            f"{item!r} names no cross-attention layer",
            f"this model has them at {list_blocks(list(reference_tokens))}",
            "choose among those",
        )
    return layers, read_share(item, found["share"])


def stage_layers(found: re.Match[str], layers: list[LayerId]) -> list[LayerId]:
    """The layers of one stage, within the item's blocks and index where it gives them."""
    first, last, index = (int(found[part]) if found[part] else None for part in ("first", "last", "index"))
    blocks = range(first, (first if last is None else last) + 1) if first is not None else None
    return [
        layer
        for layer in layers
        if layer.stage == STAGES[found["name"]]
        and (blocks is None or layer.block in blocks)
        and (index is None or layer.index == index)
    ]


def read_share(item: str, text: str | None) -> float:
    """The number after the colon, 1 where there is none."""
    try:
        share = 1.0 if text is None else float(text)
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise BadLayers(f"{item!r} gives a share of {text}", "a number in 0..1 is expected", "correct the share")
    return share


def in_text(layer: LayerId, is_alone: bool = True) -> str:
    """`in4`, or `in4.0` where its block has several: a layer in the words of a layer text."""
    block = "" if layer.stage == "middle" else str(layer.block)
    return f"{SHORT[layer.stage]}{block}" + ("" if is_alone else f".{layer.index}")


def list_blocks(layers: list[LayerId]) -> str:
    """`in1 in2 mid out3`: a family's blocks in the words of a layer text."""
    return " ".join(dict.fromkeys(in_text(layer) for layer in layers))
