"""The settings that each dial is given on the small flow world, and those that its defaults are chosen from."""

from __future__ import annotations

from dataclasses import replace

from ...attention.layers import LayerMask, list_blocks
from ...families.table import find_family
from ...tiny.defaults import TINY_FLOW_DCI
from ..dci.dials import WINDOWS, Setting, Way, controls, dials, plain, with_dci
from ..dci.protocol import Ground
from ..dci.study_anatomy import MODES
from .protocol import FlowSize

FAMILY = "tiny_flow"
SWAP_WINDOWS = (0.1, 0.2, 0.3, 0.5)  # 1, 2, 3 and 5 of 10 steps, as the windows of DCI
STRENGTHS = (1.0, 2.0)

Groups = dict[str, tuple[Setting, ...]]


def flow_dci(base: Way, **changes: object) -> Way:
    """The way with DCI at the small flow world's defaults but for these changes."""
    return with_dci(base, TINY_FLOW_DCI, **changes)


def inference(size: FlowSize, ground: Ground) -> Groups:
    """Plain sampling, every dial, the blend of whole outputs as a dial of its own, the controls."""
    base = size.plain
    whole = tuple(Setting(f"whole output, {w:g}", flow_dci(base, window=w, blends_whole=True)) for w in WINDOWS)
    return {
        "plain": (plain(base),),
        **dials(base, ground.earlier, TINY_FLOW_DCI, SWAP_WINDOWS),
        "whole_blend_dial": whole,
        "control": controls(base, TINY_FLOW_DCI),
    }


def choice(size: FlowSize) -> Groups:
    """What is tried on development objects."""
    base = size.plain
    unguided = replace(base, sample=replace(base.sample, cfg=1.0))
    return {
        "plain": (plain(base),),
        "window and strength": tuple(
            Setting(f"window {w:g}, strength {s:g}", flow_dci(base, window=w, strength=s))
            for w in WINDOWS
            for s in STRENGTHS
        ),
        "blocks": block_settings(base),
        "guidance": tuple(Setting(name, flow_dci(base, guidance=name)) for name in MODES),
        "form": tuple(Setting(f"whole output, {w:g}", flow_dci(base, window=w, blends_whole=True)) for w in (0.1, 0.3)),
        "CFG 1": (Setting("plain", unguided), Setting("DCI", flow_dci(unguided))),
        "prompt swap": tuple(Setting(f"swap {w:g}", replace(base, swap_window=w)) for w in (0.1, 0.2, 0.3)),
    }


def block_settings(base: Way) -> tuple[Setting, ...]:
    """Every block, those of one kind alone, and each block alone."""
    layers = find_family(FAMILY).layers
    groups = {f"{stage} blocks alone": [x for x in layers if x.stage == stage] for stage in ("double", "single")}
    groups |= {f"{list_blocks([layer])} alone": [layer] for layer in layers}
    found = [Setting(name, flow_dci(base, layers=LayerMask(list_blocks(some)))) for name, some in groups.items()]
    return (Setting("every block", flow_dci(base)), *found)
