"""Pairs of one subject: a picture to read, another one of the same subject to draw."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]
WHITE = 255


@dataclass(frozen=True)
class Pair:
    """One training row, as bytes so that other processes can hand it over cheaply.

    target     [h w 3], what is to be drawn
    caption    of the target
    reference  [h w 3], the same subject in another picture
    """

    target: Bytes
    caption: str
    reference: Bytes


class PairSource(Protocol):
    """Where pairs come from. A pair depends on its place and the seed alone, so the data have no position to keep."""

    @property
    def name(self) -> str:
        """For people: "tiny-world", or what the folder holds."""

    def fingerprint(self) -> str:
        """Changes when the data do; tells nothing else about them."""

    def pair(self, place: int, seed: int, cut_out: float) -> Pair:
        """The pair at a place (0, 1, ...); cut_out is the chance of a reference without its background."""


def cut(picture: Bytes, mask: Bytes) -> Bytes:
    """The picture [h w 3] on white outside the mask [h w] (255: the subject)."""
    share = mask[:, :, None].astype(np.float32) / 255
    return np.rint(picture * share + WHITE * (1 - share)).astype(np.uint8)


def to_pixels(pictures: Sequence[Bytes], device: torch.device | None = None) -> Tensor:
    """[b 3 h w] in 0..1 of pictures [h w 3]."""
    return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float() / 255


def batches(
    source: PairSource, places: Iterable[Sequence[int]], seed: int, cut_out: float, workers: int = 0
) -> Generator[list[Pair], None, None]:
    """The pairs of each list of places, in order; made ahead by so many processes, or here and now by 0."""
    if workers == 0:
        yield from (make(source, part, seed, cut_out) for part in places)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = []
        try:
            for part in places:
                waiting.append(pool.submit(make, source, part, seed, cut_out))
                if len(waiting) > 2 * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def make(source: PairSource, places: Sequence[int], seed: int, cut_out: float) -> list[Pair]:
    """The pairs at those places."""
    return [source.pair(place, seed, cut_out) for place in places]
