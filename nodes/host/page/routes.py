"""Routes under /ico_dci: they read, inside the concept folder and the families' rows, and change nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from ....dci_core.attention.layers import COARSE_TOKENS, PRESETS, LayerId, LayerMask, in_text
from ....dci_core.concept import listing
from ....dci_core.errors import PackError
from ....dci_core.families.family import Family
from ....dci_core.families.table import FAMILIES
from .. import folders
from . import events
from .live import TRAININGS
from .sayings import SAID

PREFIX = "/ico_dci"
TITLES = {
    "tiny": "tiny world",
    "tiny_flow": "tiny flow",
    "sd15": "SD",
    "sdxl": "SDXL",
    "anima": "Anima",
    "flux": "FLUX.1",
    "flux2_klein_4b": "klein 4B",
    "z_image": "Z-Image",
    "qwen_image": "Qwen-Image",
    "krea2": "Krea 2",
    "sd35_medium": "SD 3.5 M",
    "sd35_large": "SD 3.5 L",
}  # the strips of a layer mask; a family more is a row more


def register() -> None:
    """Adds the routes to the host's server, if there is one; called once, when the pack is loaded."""
    host = events.server()
    if host is None or getattr(host, "routes", None) is None:
        return
    from aiohttp import web

    async def concepts(_: Any) -> Any:
        return web.json_response(await asyncio.to_thread(known_concepts))

    async def thumbnail(request: Any) -> Any:
        try:
            path = folders.concept_path(request.query.get("name", ""))
        except PackError as error:
            return web.Response(status=404, text=str(error))
        found = await asyncio.to_thread(listing.picture_of, path)
        if found is None:
            return web.Response(status=404, text="this concept has no picture")
        kind, data = found
        return web.Response(body=data, content_type=kind, headers={"X-Content-Type-Options": "nosniff"})

    async def families(_: Any) -> Any:
        return web.json_response([row_of(FAMILIES[name], title) for name, title in TITLES.items()])

    async def layers(request: Any) -> Any:
        return web.json_response(read_layers(request.query.get("family", ""), request.query.get("text", "")))

    async def trainings(_: Any) -> Any:
        return web.json_response([live.facts for live in list(TRAININGS.values())])

    async def said(_: Any) -> Any:
        return web.json_response(list(SAID.values()))

    for name, answer in {
        "concepts": concepts, "thumbnail": thumbnail, "families": families, "layers": layers, "trainings": trainings,
        "said": said,
    }.items():  # fmt: skip
        host.routes.get(f"{PREFIX}/{name}")(answer)


def known_concepts() -> list[dict[str, Any]]:
    """Facts of every concept file that the host lists."""
    return listing.list_concepts(folders.concept_names(), folders.concept_path)


def row_of(family: Family, title: str) -> dict[str, Any]:
    """A family as the page's strip draws it: its layers in the order of the forward pass, and its presets."""
    alone = Counter((layer.stage, layer.block) for layer in family.layers)
    return {
        "name": family.name,
        "title": title,
        "presets": list(PRESETS),
        "layers": [
            {
                "name": in_text(layer, alone[layer.stage, layer.block] == 1),
                "stage": layer.stage,
                "tokens": family.reference_tokens[layer],
                "is_coarse": family.reference_tokens[layer] <= COARSE_TOKENS,
            }
            for layer in family.layers
        ],
    }


def read_layers(family: str, text: str) -> dict[str, Any]:
    """{"shares": one for each layer} of a layer text, or {"error": the sentence}."""
    if family not in FAMILIES:
        return {"error": f'there is no family "{family}"; one of {", ".join(FAMILIES)} is expected; choose one'}
    known = FAMILIES[family]
    try:
        shares: dict[LayerId, float] = LayerMask(text).shares(known.reference_tokens)
    except PackError as error:
        return {"error": str(error)}
    return {"shares": [shares.get(layer, 0.0) for layer in known.layers]}
