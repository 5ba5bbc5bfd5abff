"""Training pictures in bulk: rendered once by several processes, kept as plain arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .captions import caption
from .concepts import HELD_OUT_LOOKS
from .couples import couple_caption, paint_couple, random_couple
from .scene import PICTURE_SIZE, Rendered, random_scene, render

Bytes = NDArray[np.uint8]
Rng = np.random.Generator
CHUNK = 1000


@dataclass(frozen=True)
class Kind:
    """A kind of training picture.

    prefix  of its files' names
    seed    of its first picture, in hundreds of thousands
    paint   a picture and its caption, by chance
    """

    prefix: str
    seed: int
    paint: Callable[[Rng], tuple[Rendered, str]]


def paint_single(rng: Rng) -> tuple[Rendered, str]:
    """A training scene of one object, and its caption."""
    scene = random_scene(rng, HELD_OUT_LOOKS)
    return render(scene, rng), caption(scene, rng)


def paint_two(rng: Rng) -> tuple[Rendered, str]:
    """Two objects side by side, and their caption."""
    things, place = random_couple(rng)
    return paint_couple(things, place, rng), couple_caption(things, place, rng)


SINGLES, COUPLES = Kind("", 1, paint_single), Kind("couple-", 2, paint_two)


def render_chunk(kind: Kind, seed: int) -> tuple[Bytes, list[str]]:
    """CHUNK training pictures [CHUNK h w 3] and their captions."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((CHUNK, PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)
    captions = []
    for i in range(CHUNK):
        rendered, words = kind.paint(rng)
        pictures[i] = np.asarray(rendered.picture)
        captions.append(words)
    return pictures, captions


def render_dataset(folder: Path, count: int, kind: Kind = SINGLES) -> tuple[Bytes, list[str]]:
    """count pictures (a multiple of 1000) and captions, made at the first call and read at later ones."""
    pictures_file = folder / f"{kind.prefix}pictures-{count}.npy"
    captions_file = folder / f"{kind.prefix}captions-{count}.json"
    if not captions_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pictures = np.lib.format.open_memmap(
            pictures_file, mode="w+", dtype=np.uint8, shape=(count, PICTURE_SIZE, PICTURE_SIZE, 3)
        )
        captions: list[str] = []
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            seeds = range(kind.seed * 100_000, kind.seed * 100_000 + count // CHUNK)
            made = pool.map(partial(render_chunk, kind), seeds)
            for start, (chunk, words) in zip(range(0, count, CHUNK), made, strict=True):
                pictures[start : start + CHUNK] = chunk
                captions += words
        pictures.flush()
        captions_file.write_text(json.dumps(captions))
    return np.load(pictures_file, mmap_mode="r"), json.loads(captions_file.read_text())
