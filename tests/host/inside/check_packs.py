"""Nodes of other packs beside DCI: what it leaves alone under a black region is what they give without it."""

from __future__ import annotations

from typing import Any

import torch
from check_joint import run
from check_neighbours import written
from check_tiny import AUXILIARY, PROMPT, concept, worlds
from graphs import heard
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text
from marks import Absent, slow
from mmdit_lab import prompted, thin_model
from neighbours import BLACK, GUIDANCES, LEAST, NEGATIVE
from pack_draws import detailed, upscaled
from pack_gguf import gguf_base
from pack_loading import PackNode
from packs import FIRST_BLOCK, PACKS
from torch import Tensor


@slow
def test_every_pack_in_every_guidance_order_and_batch() -> None:
    """Writes what `docs/neighbours.md` shows: out/packs-<version of the host>.md."""
    written("packs", PACKS)


def moved_by_dci(draw: Any, columns: slice) -> Tensor:
    """[parts] how far DCI moves each part of a picture whose pair's conditioning is masked to these columns."""
    pair, base, mask = plan(text(2)), small_model(), torch.zeros(1, 128, 128)
    mask[..., columns] = 1
    positive = [*conditioning(text(1), pair, mask=mask), *conditioning(text(1), mask=1 - mask)]
    acting, record = apply(base, pair, window=0.6)
    pairs = [draw(model, positive, NEGATIVE, steps=4) for model in (base, acting)]
    assert record.acted
    return torch.tensor([distance(out, own) for own, out in zip(*pairs, strict=True)])


@slow
def test_every_pack_that_samples_parts_cuts_the_masks_of_conditionings_to_each() -> None:
    """What the help page of DBIM Layer Mask says to do in the place of a region."""
    ran = 0
    for draw, beside, within in (
        (detailed, slice(0, 32), slice(32, 96)),  # columns 32 to 96 are drawn anew
        (upscaled, slice(0, 64), slice(0, 128)),  # four parts, left and right by turns
    ):
        try:
            moved = moved_by_dci(draw, beside), moved_by_dci(draw, within)
        except Absent:
            continue
        ran += 1
        print("MEASURED", moved)
        is_left = torch.tensor([False] if len(moved[0]) == 1 else [True, False, True, False])
        assert (moved[0][~is_left] < 2e-5).all() and (moved[0][is_left] > 1e-3).all() and (moved[1] > 1e-3).all(), moved
    if not ran:
        raise Absent("none of them is in this host")


CACHES = {
    "TeaCache": PackNode(
        "ComfyUI-TeaCache",
        "TeaCache",
        {"model_type": "flux", "rel_l1_thresh": 0.4, "start_percent": 0.0, "end_percent": 1.0, "cache_device": "cpu"},
    ),
    "First Block Cache": PackNode("Comfy-WaveSpeed", "ApplyFBCacheOnModel", FIRST_BLOCK),
}


@slow
def test_a_subject_beside_a_transformers_cache_is_read_or_said_to_be_unread() -> None:
    seen = {}
    for name, cache in CACHES.items():
        for ours_first in (False, True):
            plain = thin_model("flux")
            try:
                alone = run("flux", cache.on(plain), steps=8)
            except (Absent, TypeError):  # it is not here, or fails by itself on this host
                continue
            model, record = prompted("flux", plain if ours_first else cache.on(plain))
            out = run("flux", cache.on(model) if ours_first else model, steps=8)
            change, is_told = distance(out, alone), any("no block" in sentence for sentence in record.warnings)
            seen[name, ours_first] = change, bool(record.strengths), is_told
            assert out.isfinite().all() and (change > 1e-4) is bool(record.strengths) is not is_told, seen
    if not seen:
        raise Absent("none of them is in this host")


@slow
def test_a_gguf_base_takes_a_concept_and_dci() -> None:
    pack = PACK["nodes.host.concept.apply"]
    core, _, clip = worlds()
    base = gguf_base(core)
    value = base.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_v.weight
    assert value.tensor_type.name == "Q8_0" and value.data.dtype == torch.uint8
    with heard() as said:
        model, knows = pack.with_concept(base, clip, concept(), 1.0)
    assert not any("another base" in line for line in said), said
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(knows, concept(), PROMPT, AUXILIARY)
    negative = knows.encode_from_tokens_scheduled(knows.tokenize(""))
    run = {"steps": 4, "shape": (1, 8, 16, 16)}
    drawn = [sample(each, positive, negative, **run) for each in (base, model)]
    assert distance(*drawn) > 1e-3
    for guidance in GUIDANCES:
        found = []
        for region in (BLACK, None):
            acting, record = apply(model, plan, window=0.6, guidance=guidance, region=region)
            found.append(distance(sample(acting, positive, negative, **run), drawn[1]))
            assert record.acted
        assert found[0] < LEAST and found[1] > 1e-4, (guidance, found)
