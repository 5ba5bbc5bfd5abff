"""The commands `concepts`, `info`, `export` and `import`: what a folder or file holds, and its way to other formats."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..concept.custom_diffusion import import_diffusers, import_original
from ..concept.exports import export_embedding, export_lora
from ..concept.file import load_concept, save_concept
from ..concept.learned import Concept
from ..concept.listing import list_concepts, names_in
from ..errors import BadConcept, BadSettings
from ..families.table import find_family
from ..files import read_tensors
from .console import Console
from .places import check_out
from .tiny_world import TinyWorld, known_noun
from .train import read_rank

SAFETENSORS = (".safetensors",)
CHECKPOINT_PREFIX = "model.diffusion_model."  # of the U-Net inside whole SD checkpoints


def info(options: Namespace, console: Console) -> int:
    """Tells what a concept file holds; no model is loaded."""
    concept = load_concept(options.concept)
    about = facts(concept, options.concept)
    console.result(about, "\n".join(f"{name.replace('_', ' '):18} {value}" for name, value in lines(about)))
    return 0


def list_folder(options: Namespace, console: Console) -> int:
    """Tells which concept files a folder holds, the newest first, by their headers alone."""
    folder: Path = options.folder
    try:
        names = names_in(folder) if folder.is_dir() else None
    except OSError:
        names = None
    if names is None:
        raise BadConcept(f'the folder "{folder.name}" cannot be read', "a folder was expected", "check the path")
    found = list_concepts(names, lambda name: folder / name)
    console.result({"folder": str(folder), "concepts": found}, listing(found, folder))
    return 0


def listing(found: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The facts as a table, a row a file."""
    head = ("file", "prompt", "family", "steps", "loss", "rank", "MB", "date", "picture")
    rows = [
        (
            each["name"], f"{each['trigger']} {each['noun']}", each["family"], str(each["steps"] or ""),
            "" if each["loss"] is None else f"{each['loss']:.3f}", str(each["rank"] or "full"),
            f"{each['bytes'] / 1e6:.1f}", each["date"][:10], "yes" if each["picture"] else "",
        )
        for each in found
    ]  # fmt: skip
    if not rows:
        return f"{folder}: no concept file"
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))


def facts(concept: Concept, path: Path) -> dict[str, Any]:
    """Everything worth telling of a concept."""
    about = concept.about
    return {
        "concept": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 3),
        "family": concept.family,
        "trigger": concept.trigger,
        "noun": concept.noun,
        "phrase": concept.phrase,
        "modifier_tokens": concept.num_tokens,
        "layers": len(concept.deltas),
        "rank": about.rank or "full",
        "precision": about.precision,
        "compression_error": about.error,
        "loss": dict(about.loss),
        "base_hash": about.base_hash,
        "settings": dict(about.settings),
        "code_version": about.code_version,
    }


def lines(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts as names and short texts."""
    short: list[tuple[str, str]] = []
    for name, value in about.items():
        if isinstance(value, Mapping):
            value = (
                ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items()) or "none"
            )
        short.append((name, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return short


def export(options: Namespace, console: Console) -> int:
    """Writes a LoRA, an embedding, or both."""
    if options.lora is None and options.embedding is None:
        raise BadSettings("no output came", "--lora FILE, --embedding FILE or both were expected", "name one")
    concept, rank = load_concept(options.concept), read_rank(options.file_rank)
    if rank is None:
        raise BadSettings("the rank is full", "a LoRA needs a number", "use 16, or more")
    for path in (options.lora, options.embedding):
        if path is not None:
            check_out(path, SAFETENSORS)
    phrase = None if options.embedding is None else f"embedding:{options.embedding.stem} {concept.noun}"
    written: dict[str, Any] = {}
    if options.lora is not None:
        error = export_lora(concept, options.lora, rank=rank, phrase=phrase)
        written |= {"lora": str(options.lora), "lora_error": error}
    if options.embedding is not None:
        export_embedding(concept, options.embedding, phrase=phrase)
        written |= {"embedding": str(options.embedding)}
    text = "\n".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in written.items()
    )
    if phrase is not None:
        text += f"\nprompt: {phrase}"
    console.result(written, text)
    return 0


def bring(options: Namespace, console: Console) -> int:
    """Writes a concept file from Custom Diffusion's weights."""
    find_family(options.family)
    noun = known_noun(options.noun) if options.family == "tiny" else options.noun
    out, rank = check_out(options.out, SAFETENSORS), read_rank(options.file_rank)
    how: dict[str, Any] = {"family": options.family, "trigger": options.trigger, "noun": noun, "rank": rank}
    base = read_base(options)
    if options.weights_file.suffix == ".safetensors":
        concept = import_diffusers(options.weights_file, options.embedding, base, **how)
    else:
        concept = import_original(options.weights_file, base, **how)
    save_concept(concept, out)
    console.result(
        facts(concept, out), f"{out}: {concept.phrase!r}, {len(concept.deltas)} layers, rank {concept.about.rank}"
    )
    return 0


def read_base(options: Namespace) -> Mapping[str, Tensor]:
    """The base model's weights by LDM key: the small world's own, or those of a checkpoint; raises BadConcept."""
    if options.base is None:
        if options.family != "tiny":
            raise BadSettings(
                f"no base model came for {options.family}",
                "its checkpoint (safetensors) was expected",
                "add --base FILE",
            )
        return TinyWorld(options.weights).model.kv_weights()
    tensors = read_tensors(options.base, "checkpoint", max_bytes=None)[0]
    return {name.removeprefix(CHECKPOINT_PREFIX): x for name, x in tensors.items()}
