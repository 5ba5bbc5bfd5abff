"""Training pictures in bulk: rendered once by several processes, kept as plain arrays."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .captions import caption
from .concepts import HELD_OUT_LOOKS
from .scene import PICTURE_SIZE, random_scene, render

Bytes = NDArray[np.uint8]
CHUNK = 1000


def render_chunk(seed: int) -> tuple[Bytes, list[str]]:
    """CHUNK training pictures [CHUNK h w 3] and their captions."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((CHUNK, PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)
    captions = []
    for i in range(CHUNK):
        scene = random_scene(rng, HELD_OUT_LOOKS)
        pictures[i] = np.asarray(render(scene, rng).picture)
        captions.append(caption(scene, rng))
    return pictures, captions


def render_dataset(folder: Path, count: int, seed: int = 1) -> tuple[Bytes, list[str]]:
    """count pictures (a multiple of 1000) and captions, made at the first call and read at later ones."""
    pictures_file, captions_file = folder / f"pictures-{count}.npy", folder / f"captions-{count}.json"
    if not captions_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pictures = np.lib.format.open_memmap(
            pictures_file, mode="w+", dtype=np.uint8, shape=(count, PICTURE_SIZE, PICTURE_SIZE, 3)
        )
        captions: list[str] = []
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            seeds = range(seed * 100_000, seed * 100_000 + count // CHUNK)
            for start, (chunk, words) in zip(range(0, count, CHUNK), pool.map(render_chunk, seeds), strict=True):
                pictures[start : start + CHUNK] = chunk
                captions += words
        pictures.flush()
        captions_file.write_text(json.dumps(captions))
    return np.load(pictures_file, mmap_mode="r"), json.loads(captions_file.read_text())
