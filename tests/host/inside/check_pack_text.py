"""Encode nodes of other packs: the trigger works in each, whatever way it asks the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from check_text import knowing
from check_tiny import PROMPT, worlds
from lab import distance
from marks import Absent, slow
from neighbours import run_node
from pack_loading import nodes_of
from torch import Tensor

SDXL: dict[str, Any] = {"with_SDXL": False, "ascore": 6.0, "text_g": "", "text_l": ""} | dict.fromkeys(
    ("width", "height", "target_width", "target_height"), 512
) | dict.fromkeys(("crop_w", "crop_h"), 0)  # fmt: skip


def advanced(how: str) -> Callable[[Any, str], Tensor]:
    """ADV_CLIP_emb's encode node."""

    def encode(clip: Any, prompt: str) -> Tensor:
        kind = nodes_of("ComfyUI_ADV_CLIP_emb")["BNK_CLIPTextEncodeAdvanced"]
        out = run_node(kind, clip=clip, text=prompt, token_normalization="none", weight_interpretation=how)[0]
        return out[0][0]  # type: ignore[no-any-return]

    return encode


def cut_off(clip: Any, prompt: str) -> Tensor:
    """Cutoff's nodes without a region that is cut."""
    known = nodes_of("ComfyUI_Cutoff")
    base = run_node(known["BNK_CutoffBasePrompt"], clip=clip, text=prompt)[0]
    how = {"mask_token": "", "strict_mask": 1.0, "start_from_masked": 0.0}
    out = run_node(known["BNK_CutoffRegionsToConditioning"], clip_regions=base, **how)[0]
    return out[0][0]  # type: ignore[no-any-return]


def smz(parser: str) -> Callable[[Any, str], Tensor]:
    """smZNodes' encode node."""

    def encode(clip: Any, prompt: str) -> Tensor:
        kind = nodes_of("ComfyUI_smZNodes")["smZ CLIPTextEncode"]
        how = {"mean_normalization": False, "multi_conditioning": False, "use_old_emphasis_implementation": False}
        return run_node(kind, clip=clip, text=prompt, parser=parser, **how, **SDXL)[0][0][0]  # type: ignore[no-any-return]

    return encode


def lazily(clip: Any, prompt: str) -> Tensor:
    """prompt-control's encode node."""
    out = run_node(nodes_of("comfyui-prompt-control")["PCTextEncode"], clip=clip, text=prompt)[0]
    return out[0][0]  # type: ignore[no-any-return]


ENCODERS: dict[str, Callable[[Any, str], Tensor]] = {
    **{f"ADV_CLIP_emb, {how}": advanced(how) for how in ("comfy", "A1111", "compel", "comfy++", "down_weight")},
    "Cutoff": cut_off,
    **{
        f"smZNodes, {parser}": smz(parser)
        for parser in ("comfy", "comfy++", "A1111", "full", "compel", "fixed attention")
    },
    "prompt-control": lazily,
}


@slow
def test_the_trigger_works_in_every_encode_node_that_is_here() -> None:
    plain, clip, seen = worlds()[2], knowing(), {}
    asked, without = (each.encode_from_tokens(each.tokenize(PROMPT)) for each in (clip, plain))
    for name, encode in ENCODERS.items():
        try:
            found, weighted = encode(clip, PROMPT), encode(clip, f"({PROMPT}:1.3)")
        except Absent:
            continue
        seen[name] = distance(found, asked), distance(found, without), distance(weighted, asked)
    if not seen:
        raise Absent("none of them is in this host")
    assert all(same < 1e-4 and moved > 1e-2 and weight == weight for same, moved, weight in seen.values()), seen
