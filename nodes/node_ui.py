"""What a node says on itself: facts as the page's extension shows them under its widgets.

Every node hands its facts to `said`; nothing else of the pack makes a `ui`. Without the extension the same facts stand
in the prompt's history, under the key `ico_dci`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..dci_core.attention.layers import LayerMask
from ..dci_core.concept.learned import Concept
from ..dci_core.errors import PackError
from ..dci_core.families.table import FAMILIES

KEY = "ico_dci"
SHOWN_FAMILIES = {
    "tiny": "tiny world",
    "tiny_flow": "tiny flow world",
    "sd15": "SD 1.x and 2.x",
    "sdxl": "SDXL",
    "anima": "Anima",
    "flux": "FLUX.1 and Chroma",
}
MOST_POINTS = 200  # of a loss curve on the page


def said(*lines: str, warnings: Sequence[str] = (), **facts: Any) -> dict[str, list[Any]]:
    """The `ui` of a node: lines that say what it did, warnings that stand out, and whatever its panel draws."""
    return {KEY: [{"lines": [line for line in lines if line], "warnings": list(warnings), **facts}]}


def about_concept(concept: Concept) -> str:
    """`myfish fish, tiny, 200 steps, loss 0.12 to 0.08`: one line that tells a concept from others."""
    loss = concept.about.loss
    parts = [concept.phrase, concept.family]
    if loss:
        parts.append(f"{loss.get('steps', 0):.0f} steps")
        parts.append(f"loss {loss.get('first', 0):.4f} to {loss.get('mean_of_last', 0):.4f}")
    return ", ".join(parts)


def trained(
    concept: Concept, losses: Sequence[float], warnings: Sequence[str] = (), samples: Sequence[Mapping[str, str]] = ()
) -> dict[str, list[Any]]:
    """Of a training: what was learned, how the loss went, and its samples as the host's page shows pictures."""
    told = said(
        about_concept(concept),
        f"write in prompts: {concept.phrase}",
        f"{len(samples)} samples in output/{samples[0]['subfolder']}" if samples else "",
        warnings=warnings,
        trigger=concept.phrase,
        steps=len(losses),
        points=thinned(losses),
    )
    return {**told, "images": list(samples)} if samples else told


def thinned(losses: Sequence[float], most: int = MOST_POINTS) -> list[list[float]]:
    """[step, mean loss] of at most so many equal stretches of a training; steps count from 1."""
    size = max(1, -(-len(losses) // most))
    parts = [losses[i : i + size] for i in range(0, len(losses), size)]
    return [[min((i + 1) * size, len(losses)), sum(part) / len(part)] for i, part in enumerate(parts)]


def loaded(concept: Concept, name: str) -> dict[str, list[Any]]:
    """Of a concept that was loaded."""
    return said(about_concept(concept), f"write in prompts: {concept.phrase}", trigger=concept.phrase, name=name)


def paired(
    texts: tuple[str, str], words: Sequence[tuple[str, str]], found: str, warnings: Sequence[str] = ()
) -> dict[str, list[Any]]:
    """Of a prompt pair: both prompts, with where each concept and its stand-in were found.

    texts  the concept's prompt and the auxiliary one
    words  of each concept what was looked for in the one and in the other
    """
    prompts = [
        {"title": title, "text": text, "marks": sorted(mark for word in side for mark in marks_of(text, word))}
        for title, text, side in zip(("concept", "auxiliary"), texts, zip(*words, strict=True), strict=True)
    ]
    return said(warnings=warnings, prompts=prompts, found=found)


def marks_of(text: str, phrase: str) -> list[list[int]]:
    """[start, end] of every place of a phrase in a text, blanks and case aside."""
    spaced = r"\s+".join(map(re.escape, phrase.split()))
    return [list(match.span()) for match in re.finditer(rf"(?<!\w){spaced}(?!\w)", text, re.IGNORECASE)]


def layers_told(mask: LayerMask, region: Any) -> dict[str, list[Any]]:
    """Of a layer mask: how many layers integrate in each kind of model, and how much of the picture."""
    counts, warnings = [], []
    for family, title in SHOWN_FAMILIES.items():
        layers = FAMILIES[family].reference_tokens
        try:
            on = [share for share in mask.shares(layers).values() if share]
            counts.append(f"{title}: {len(on)} of {len(layers)} layers")
        except PackError as error:
            counts.append(f"{title}: does not fit")
            warnings.append(str(error))
    everywhere = "in the whole picture" if region is None else f"in {100 * float(region.mean()):.0f}% of the picture"
    if region is not None and not float(region.max()) > 0:
        warnings = [*warnings, "the region is black, so DCI acts nowhere; paint white where it should act"]
    fits_none = len(warnings) >= len(SHOWN_FAMILIES)
    told = warnings if fits_none or region is not None else []
    return said(f"{mask.text}, {everywhere}", *counts, warnings=told[:1])


def table_told(values: Mapping[str, float], text: str) -> dict[str, list[Any]]:
    """Of scores: each that could be had, and the table."""
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in values.items() if value == value)
    return said(numbers or "nothing could be scored", table=text)


def ran(record: Any, settings: Any) -> dict[str, list[Any]]:
    """Of a run with DCI: in how many steps it acted, what that cost, and what to know of it.

    record    a DbimRecord after its run; settings  the DciSettings of it
    """
    if not record.steps:
        return said("DCI is off: the window is closed or no layer has a share; this is the plain run, bit for bit")
    how = f"window {settings.window:g}, strength {settings.strength:g}, guidance {settings.guidance}"
    return said(
        f"DCI acted in {record.acted} of {record.steps} steps ({how})",
        f"{record.rows} rows of the model, {record.plain_rows} without DCI: {record.rows / record.plain_rows:.2f} times"
        if record.plain_rows
        else "",
        f"beside {', '.join(record.guests)}: they saw the plain run, the auxiliary branch ran in calls of its own"
        if record.guests
        else "",
        warnings=record.warnings,
    )


def written(*files: str, how: str = "") -> dict[str, list[Any]]:
    """Of files that a node has written, each as place and size."""
    return said(*(f"wrote {file}" for file in files), how)


def will_run(settings: Any) -> dict[str, list[Any]]:
    """Of a model that carries DCI before anybody has sampled with it."""
    if not settings.window:
        return said("DCI is off: the window is closed")
    how = f"window {settings.window:g}, strength {settings.strength:g}, guidance {settings.guidance}"
    return said(f"ready: {how}; what it did is told here after the sampler")


def reads(num_pictures: int, dials: Mapping[str, Any], granularity: str) -> dict[str, list[Any]]:
    """Of a model that reads a subject: from how many pictures, how strongly, when and where."""
    is_off = not dials["scale"] or dials["end"] <= dials["start"]
    how = f"scale {dials['scale']:g}, text scale {dials['text_scale']:g}, from {dials['start']:g} to {dials['end']:g}"
    return said(
        f"reads one subject from {num_pictures} picture{'s' if num_pictures != 1 else ''}, {dials['where']}",
        f"{how}, blocks: {dials['blocks']}",
        *granularity.splitlines(),
        warnings=["it reads nothing: the scale is 0 or the end is not after the start"] if is_off else (),
    )


def seen_maps(sigmas: Sequence[float], otherwise: str) -> dict[str, list[Any]]:
    """Of a preview of maps: over how many steps it has them."""
    if not sigmas:
        return said(warnings=[otherwise])
    return said(f"{len(sigmas)} steps, from noise {max(sigmas):.3g} to {min(sigmas):.3g}")


def with_facts(told: dict[str, list[Any]], **facts: Any) -> dict[str, list[Any]]:
    """The same `ui` with more for the node's panel to draw."""
    return {KEY: [{**entry, **facts} for entry in told[KEY]]}
