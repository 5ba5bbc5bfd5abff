"""Decoupled attention: each subject's reference is read beside the joint attention, row by row as its gate allows.

Shapes: b batch rows, heads, n rows of the joint sequence, m reference tokens, d head width.
Source: dynaip.md section 3, reconstruction; facts 1 and 3 (both branches read in training, image rows alone later).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..attention.joint import BlockId, JointCall, JointRule
from ..attention.regions import region_on, share_rows
from ..errors import BadModel, BadSettings
from ..indices import indices_on, picker
from .subject import Subject

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class BlockKV:
    """Keys and values of one subject in one block, each [1-or-b heads m d], without rotary.

    image  what image rows read
    text   what text rows read: the same pair, or one of their own; None where text rows of this block never read
    """

    image: KeyValue
    text: KeyValue | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> BlockKV:
        """The same where, and in the precision in which, the model runs; what both kinds of rows read moves once."""
        image = self.image[0].to(device, dtype), self.image[1].to(device, dtype)
        if self.text is None:
            return BlockKV(image)
        if self.text is self.image:
            return BlockKV(image, image)
        return BlockKV(image, (self.text[0].to(device, dtype), self.text[1].to(device, dtype)))


SubjectKV = Mapping[BlockId, BlockKV]
ObserveReading = Callable[[BlockId, int, Tensor, tuple[int, int]], None]
"""Receives (block, number of the subject, length of what each image row gets [reading rows, image rows], grid)."""


def image_prompt_rule(
    kvs: Sequence[SubjectKV],
    subjects: Sequence[Subject],
    *,
    percent: float | None = None,
    observe: ObserveReading | None = None,
) -> JointRule:
    """A rule that adds, for every subject k, gate_k * softmax(q K_k^T / sqrt(d)) V_k to the rows that read it.

    kvs      per subject, its keys and values by block; a block without an entry reads nothing
    percent  progress of the schedule in this call, for the subjects' start and end; None: all are read
    observe  sees how strongly image rows read each subject; nothing is spent when it is None

    The gate of an image row is scale * region, that of a text row text_scale, both times `reads` of its batch row.
    Rows that several subjects cover share them (`share_rows`); text rows lie nowhere, so every subject covers them.
    Nothing is computed, and None returned, where no gate is open. Image rows and text rows are computed apart, so
    text_scale changes no bit of the image rows of the same call. Raises BadSettings without subjects.

    Source: dynaip.md sections 3 and 5, reconstruction.
    """
    if not subjects or len(kvs) != len(subjects):
        raise BadSettings(
            f"{len(subjects)} subjects came with {len(kvs)} references",
            "one reference for each of one or more subjects was expected",
            "add a subject with its pictures",
        )
    regions = _Regions(subjects)

    def rule(call: JointCall) -> Tensor | None:
        there = [k for k, s in enumerate(subjects) if s.is_read(call.block, percent) and call.block in kvs[k]]
        batch = tuple(row for row, reads in enumerate(call.reads.tolist()) if reads) if there else ()
        if not batch:
            return None
        _check_call(call, [kvs[k] for k in there])
        rows, parts = call.rows, []
        for k, gate in _image_gates(there, subjects, regions.on(call)):
            part = _read(call.image_queries, kvs[k][call.block].image, gate, batch)
            parts.append((rows.image, part))
            if observe is not None:
                observe(call.block, k, part.detach().float().norm(dim=-1), call.grid)
        for pair, gate in _text_gates(there, subjects, kvs, call):
            parts.append((rows.text, _read(call.q[:, :, rows.text], pair, gate, batch)))
        return _gather(call, parts, batch)

    return rule


def _image_gates(
    there: list[int], subjects: Sequence[Subject], covers: Sequence[Tensor | None]
) -> list[tuple[int, Tensor | float]]:
    """(subject, scale * its share of each image row) of those that image rows read."""
    read = [k for k in there if subjects[k].scale]
    shares = share_rows([covers[k] for k in read])
    return [(k, subjects[k].scale * share) for k, share in zip(read, shares, strict=True)]


def _text_gates(
    there: list[int], subjects: Sequence[Subject], kvs: Sequence[SubjectKV], call: JointCall
) -> list[tuple[KeyValue, float]]:
    """(keys and values, text_scale * its share) of the subjects that text rows read."""
    pairs = {k: kvs[k][call.block].text for k in there if subjects[k].text_scale and call.rows.text_count}
    read = {k: pair for k, pair in pairs.items() if pair is not None}
    return [(pair, subjects[k].text_scale / len(read)) for k, pair in read.items()]


class _Regions:
    """The subjects' regions on the grids that calls come with, pooled once per grid."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self.regions = [subject.region for subject in subjects]
        self.kept: dict[object, list[Tensor | None]] = {}

    def on(self, call: JointCall) -> list[Tensor | None]:
        """Per subject its cover of the image rows, [b-or-1 n]; None for all of them."""
        key = (call.grid, call.q.device)
        if key not in self.kept:
            there = [None if r is None else r.to(call.q.device) for r in self.regions]
            self.kept[key] = [None if r is None else region_on(r, call.grid) for r in there]
        return self.kept[key]


def _of_batch(x: Tensor, batch: tuple[int, ...]) -> Tensor:
    """The entries of x for these batch rows; x has one for all, or one per picture, repeated as cond and uncond are."""
    if x.shape[0] == 1:
        return x.expand(len(batch), *x.shape[1:])
    places = tuple(row % x.shape[0] for row in batch)
    return x if places == tuple(range(x.shape[0])) else picker(places, x.device)(x, 0)


def _read(q: Tensor, pair: KeyValue, gate: Tensor | float, batch: tuple[int, ...]) -> Tensor:
    """What these rows read of one subject, times its gate: [reading rows n (heads d)] in q's dtype."""
    q, k, v = _of_batch(q, batch), *(_of_batch(x.to(q), batch) for x in pair)
    part = rearrange(scaled_dot_product_attention(q, k, v), "b heads n d -> b n (heads d)")
    return part * (rearrange(_of_batch(gate, batch).to(part), "b n -> b n 1") if isinstance(gate, Tensor) else gate)


def _gather(call: JointCall, parts: Sequence[tuple[slice, Tensor]], batch: tuple[int, ...]) -> Tensor | None:
    """The parts in their rows, zero elsewhere, [b n (heads d)]; None without a part."""
    if not parts:
        return None
    b, heads, n, d = call.q.shape
    delta = call.q.new_zeros(b, n, heads * d)
    where = slice(None) if len(batch) == b else indices_on(batch, call.q.device)
    for rows, part in parts:
        delta[where, rows] += part
    return delta


def _check_call(call: JointCall, kvs: Sequence[SubjectKV]) -> None:
    b, heads, n, d = call.q.shape
    height, width = call.grid
    if height * width != call.rows.image_count or max(call.rows.text.stop, call.rows.image.stop) > n:
        raise BadModel(
            f"block {call.block} has {n} rows on a grid {call.grid}, its {call.rows}",
            "height * width image rows inside the sequence were expected",
            "build the rows from the model's token counts",
        )
    for k, _ in (kv[call.block].image for kv in kvs):
        if k.shape[1] != heads or k.shape[3] != d or b % k.shape[0]:
            raise BadModel(
                f"block {call.block} has {b} rows of {heads} heads {d} wide",
                f"{k.shape[0]} of {k.shape[1]} heads {k.shape[3]} wide were expected by the reference",
                "use an adapter of this model's family, and one reference or one per picture",
            )
