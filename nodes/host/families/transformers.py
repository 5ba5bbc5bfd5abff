"""Which transformer that concepts are learned on a loaded model is: one row for each of the host's network classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from typing import Any

from ....dci_core.attention.layers import LayerId
from ....dci_core.errors import BadModel
from ....dci_core.families.family import Family
from ....dci_core.families.table import FAMILIES
from ....dci_core.families.weight_names import CONTEXT, JOINT, in_order
from .blocks import blocks_in, has_second_attention


@dataclass(frozen=True)
class Layout:
    """One of the host's network classes.

    title   what people call such a model
    width   attribute that holds the width of an image token, dots between
    stages  what concepts call a stage that image prompts call otherwise
    needs   module that came with such models, where their class is older
    """

    name: str
    module: str
    kind: str
    title: str
    width: str
    stages: Mapping[str, str] = field(default_factory=dict)
    needs: str = "comfy"

    def own_class(self) -> Any:
        """The class; None where this host has not got such models."""
        try:
            import_module(self.needs)
            return getattr(import_module(self.module), self.kind, None)
        except ImportError:
            return None

    def holds(self, network: Any) -> bool:
        """Whether a network is of this class."""
        own = self.own_class()
        return own is not None and isinstance(network, own)


LAYOUTS = (
    Layout("anima", "comfy.ldm.anima.model", "Anima", "Anima", "model_channels"),
    Layout("flux", "comfy.ldm.flux.model", "Flux", "FLUX", "hidden_size"),
    Layout("chroma", "comfy.ldm.chroma.model", "Chroma", "Chroma", "hidden_size"),
    Layout("z_image", "comfy.ldm.lumina.model", "NextDiT", "Z-Image", "dim", needs="comfy.text_encoders.z_image"),
    Layout(
        *("qwen_image", "comfy.ldm.qwen_image.model", "QwenImageTransformer2DModel", "Qwen-Image", "inner_dim"),
        stages={"double": JOINT},
    ),
    Layout(
        *("sd3", "comfy.ldm.modules.diffusionmodules.mmdit", "MMDiT", "SD 3 or 3.5", "hidden_size"),
        stages={"double": CONTEXT},
    ),
    Layout("krea2", "comfy.ldm.krea2.model", "SingleStreamDiT", "Krea 2", "first.out_features"),
)


def layout_of(network: Any) -> Layout | None:
    """The row of a network's class; None for U-Nets and for transformers that have no row."""
    return next((layout for layout in LAYOUTS if layout.holds(network)), None)


def titles() -> list[str]:
    """What people call the models of all rows."""
    return [layout.title for layout in LAYOUTS]


def layers_in(layout: Layout, network: Any) -> tuple[LayerId, ...]:
    """Every block that reads text, in the order of the forward pass."""
    found = (block for block, _ in blocks_in(network))
    named = (b if isinstance(b, LayerId) else LayerId(layout.stages.get(b.stream, b.stream), b.index) for b in found)
    return tuple(in_order(named))


def transformer_family(layout: Layout, network: Any) -> Family:
    """The family with these blocks and this width; raises BadModel."""
    layers, width = layers_in(layout, network), int(attrgetter(layout.width)(network))
    has_second = has_second_attention(network)
    for family in FAMILIES.values():
        is_built_so = (family.layers, family.channels[-1], family.has_second) == (layers, width, has_second)
        if family.layout == layout.name and is_built_so:
            return family
    known = [family.name for family in FAMILIES.values() if family.layout == layout.name]
    raise BadModel(
        f"the model is of {layout.title}'s kind with {len(layers)} blocks of width {width}",
        f"the sizes of {' or '.join(known)} are expected",
        "load one of these; concepts are learned for each size apart",
    )


def check_host_has(family: Family, name: str) -> None:
    """Raises BadModel where this host has not got the model that a concept of this name is for."""
    layout = next((layout for layout in LAYOUTS if layout.name == family.layout), None)
    if layout is None or layout.own_class() is not None:
        return
    from comfyui_version import __version__

    raise BadModel(
        f'the concept "{name}" is for {layout.title}',
        f"ComfyUI {__version__} has not got that model",
        "update ComfyUI",
    )
