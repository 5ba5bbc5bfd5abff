"""Concepts on disk: one safetensors file each (docs/concept-format.md)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..attention.layers import LayerId
from ..errors import BadConcept, BadSettings
from ..families.weight_names import PARTS, in_order, read_ldm, weight_key
from ..files import check_finite, read_tensors, write_tensors
from .cover import read_cover
from .deltas import Delta, LayerDelta, Widths
from .learned import CONCEPT_HASH, Concept, Provenance, check_fit, check_trigger, concept_hash
from .modelspec import model_spec

FORMAT = "ico-dci concept"
FORMAT_VERSION = 1
TOKENS = "tokens."


def save_concept(concept: Concept, path: Path) -> None:
    """The concept stands at path; a file that stood there survives any failure. Raises NotSaved, BadConcept for NaN."""
    tensors: dict[str, Tensor] = {TOKENS + name: rows for name, rows in concept.tokens.items()}
    for layer, delta in concept.deltas.items():
        for part, change in zip(PARTS, delta, strict=True):
            key = weight_key(layer, part).removesuffix(".weight")
            tensors |= {f"{key}.full": change.up} if change.down is None else {}
            tensors |= {} if change.down is None else {f"{key}.up": change.up, f"{key}.down": change.down}
    check_finite(tensors, path.name)
    about = {
        "family": concept.family,
        "trigger": concept.trigger,
        "noun": concept.noun,
        "layers": [list(layer) for layer in in_order(concept.deltas)],
        **dataclasses.asdict(concept.about),
    }
    facts = {"format": FORMAT, "version": str(FORMAT_VERSION), "about": json.dumps(about)}
    write_tensors(path, tensors, facts | {CONCEPT_HASH: concept_hash(concept)} | model_spec(concept))


def load_concept(
    path: Path,
    *,
    family: str | None = None,
    widths: Widths | None = None,
    token_widths: Mapping[str, int] | None = None,
    base_hash: str | None = None,
) -> Concept:
    """The concept of a file; with a family, also checked against the model it is for (`check_fit`).

    Raises BadConcept for a file that is missing, cut short, foreign, not finite or of another format version.
    """
    tensors, metadata = read_tensors(path)
    _check_format(path, metadata)
    check_finite(tensors, path.name)
    try:
        concept = replace(_build(json.loads(metadata["about"]), tensors), cover=read_cover(metadata))
    except (KeyError, ValueError, TypeError, IndexError, BadSettings) as error:
        raise BadConcept(
            f'"{path.name}" has parts that do not fit together',
            "the layers and tokens that its metadata lists were expected",
            "save or download it again",
        ) from error
    if family is not None:
        check_fit(concept, family=family, widths=widths, token_widths=token_widths, base_hash=base_hash)
    return concept


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    expected = f"{FORMAT}, format {FORMAT_VERSION}, was expected"
    if metadata.get("format") != FORMAT:
        came = metadata.get("format", "a safetensors file of another kind")
        raise BadConcept(f'"{path.name}" is {came}', expected, "choose a concept file, or import it first")
    version = metadata.get("version", "")
    if version != str(FORMAT_VERSION):
        newer = version.isdecimal() and int(version) > FORMAT_VERSION
        do = "update this pack" if newer else "train the concept again or save it with a newer version of this pack"
        raise BadConcept(f'"{path.name}" has format {version or "none"}', expected, do)


def _build(about: dict[str, Any], tensors: Mapping[str, Tensor]) -> Concept:
    """The concept; raises KeyError or ValueError where metadata and tensors disagree."""
    names = {f.name for f in dataclasses.fields(Provenance)}
    tokens = {name.removeprefix(TOKENS): x for name, x in tensors.items() if name.startswith(TOKENS)}
    if not tokens or any(x.ndim != 2 for x in tokens.values()) or len({x.shape[0] for x in tokens.values()}) != 1:
        raise ValueError("tokens")
    layers = [LayerId(str(stage), int(block), int(index)) for stage, block, index in about["layers"]]
    deltas = {layer: LayerDelta(*(_delta(layer, part, tensors) for part in PARTS)) for layer in layers}
    known = {found[0] for name in tensors if (found := read_ldm(name)) is not None}
    if known != set(layers):
        raise ValueError("layers")
    check_trigger(about["trigger"])
    provenance = Provenance(**{name: about[name] for name in names})
    return Concept(str(about["family"]), about["trigger"], str(about["noun"]), tokens, deltas, provenance)


def _delta(layer: LayerId, part: str, tensors: Mapping[str, Tensor]) -> Delta:
    key = weight_key(layer, part).removesuffix(".weight")
    full = tensors.get(f"{key}.full")
    delta = Delta(tensors[f"{key}.up"], tensors[f"{key}.down"]) if full is None else Delta(full)
    if delta.up.ndim != 2 or (delta.down is not None and delta.up.shape[1:] != delta.down.shape[:1]):
        raise ValueError("factors")
    return delta
