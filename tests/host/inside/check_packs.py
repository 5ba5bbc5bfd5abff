"""Nodes of other packs beside DCI: what it leaves alone under a black region is what they give without it."""

from __future__ import annotations

from check_joint import run
from check_neighbours import written
from lab import distance
from marks import Absent, slow
from mmdit_lab import prompted, thin_model
from pack_loading import PackNode
from packs import FIRST_BLOCK, PACKS


@slow
def test_every_pack_in_every_guidance_order_and_batch() -> None:
    """Writes what `docs/neighbours.md` shows: out/packs-<version of the host>.md."""
    written("packs", PACKS)


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
