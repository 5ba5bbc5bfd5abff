"""Dual-branch guidance (DCI): the denoisers that a sampler steps with.

Source: Jin et al., ECCV 2024 (arXiv 2412.04831); the window and the guidance modes from the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from einops import rearrange
from torch import Tensor

from ..attention.call import AttentionCall, AttentionRule
from ..attention.layers import LayerId
from ..concept.together import Together
from ..errors import BadSettings
from ..families.table import find_family
from ..fingerprint import fingerprint
from ..indices import indices_on
from ..model import Model, Text
from ..noise.samplers import Denoiser
from ..noise.schedule import is_open
from ..text.captions import join_text, pick_text
from ..text.prompts import Prompts
from .branches import DciSettings
from .dbim import dbim_rule
from .maps import AuxiliaryView, BranchRows, keeping_rule
from .replay import AuxiliaryCall, Replay, halves
from .row_plan import RowPlan, Tag, plan_rows, rows_of_pair, tags_of
from .stability import spring_share


@dataclass(frozen=True)
class WeightMap:
    """The concept branch's share in one layer at one step: weights [b h w], the mean over heads, on the CPU."""

    layer: LayerId
    sigma: float
    weights: Tensor


def denoise_at(model: Model, x: Tensor, sigma: float, text: Text, rule: AttentionRule | None = None) -> Tensor:
    """The model's x0 where every row has the same noise."""
    return model.denoise(x, x.new_full((x.shape[0],), sigma), text, rule)


def guide(x0: Tensor, cfg: float) -> Tensor:
    """Classifier-free guidance over a batch of two chunks, (uncond, cond): [(chunk rows) c h w] -> [rows c h w]."""
    uncond, cond = x0.chunk(2)
    return uncond + (cond - uncond) * cfg


def guided(model: Model, prompts: Prompts, cfg: float, together: Together | None = None) -> Denoiser:
    """The ordinary guided denoiser over [b c h w]; cfg 1 runs the prompt alone.

    together  keeps several concepts of the prompt apart
    """
    both = join_text([prompts.empty, prompts.concept])

    @cache
    def rule(num: int, device: torch.device) -> AttentionRule | None:
        mine = BranchRows(tuple(range(0 if cfg == 1 else num, num if cfg == 1 else 2 * num)), ())
        return None if together is None else kept_apart(together, mine, device)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        apart = rule(len(x), x.device)
        if cfg == 1:
            return denoise_at(model, x, sigma, pick_text(prompts.concept, [0] * len(x)), apart)
        text = pick_text(both, [0] * len(x) + [1] * len(x))
        return guide(denoise_at(model, torch.cat([x, x]), sigma, text, apart), cfg)

    return denoise


def kept_apart(
    together: Together, rows: BranchRows, device: torch.device, then: AttentionRule = AttentionCall.plain
) -> AttentionRule:
    """A rule under which every concept keeps to its words and its region, before `then` acts.

    Where each has a region, every place sees the model of its own concept in words that are nobody's, marks and padding
    among them, by one more attention for each concept.
    """
    changes = [each.change(rows, device) for each in together.by_place()]
    change = together.change(rows, device)
    if not changes or not rows.concept:
        return lambda call: then(change(call))
    concept = indices_on(rows.concept, device)

    @cache
    def shares_on(grid: tuple[int, int]) -> list[Tensor]:
        return [share[..., None] for share in together.shares(grid, device)]

    def rule(call: AttentionCall) -> Tensor:
        outs = [then(each(call)) for each in changes]
        mine = [out.index_select(0, concept) for out in outs]
        whole = sum(mine[1:], mine[0]) / len(mine)  # text rows of a joint sequence: the mean
        shares = shares_on(call.grid)
        placed = [share.to(out) * out[:, call.image] for share, out in zip(shares, mine, strict=True)]
        whole[:, call.image] = sum(placed[1:], placed[0])
        return outs[0].index_copy(0, concept, whole)

    return rule


def dual_guided(
    model: Model,
    prompts: Prompts,
    cfg: float,
    settings: DciSettings,
    record: list[WeightMap] | None = None,
    replay: Replay | None = None,
    together: Together | None = None,
) -> Denoiser:
    """The dual branch's guided denoiser over [(b branch) c h w]; rows that need not run return their input.

    record  gets the weights of every layer that integrates
    replay  keeps and gives back what the auxiliary rows need; BadSettings in `shared` guidance; not with `together`
    together  keeps several concepts of the prompt apart
    """
    if prompts.auxiliary is None or prompts.tokens is None:
        raise BadSettings("DCI got no auxiliary prompt", "a pair of prompts is expected", "make it from a template")
    if replay is not None and settings.guidance == "shared":
        raise BadSettings(
            "a replay came with guidance 'shared'",
            "an auxiliary that does not depend on the concept is expected",
            "choose `separate` or `aligned`",
        )
    threshold = find_family(model.family).schedule.threshold(settings.window)
    seen: list[SeenWeights] = []
    calls = _Calls(model, prompts, cfg, settings, seen if record is not None else None, together)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        acts = is_open(sigma, threshold)
        batch = torch.cat([x] * calls.num_chunks)  # [(chunk b branch) c h w]
        splits = replay if acts and together is None else None
        x0 = calls.in_halves(batch, sigma, splits) if splits is not None else calls.at_once(batch, sigma, acts)
        if record is not None and seen:
            record.extend(weight_maps(sigma, seen))
            seen.clear()
        return x0 if cfg == 1 else guide(x0, cfg)

    return denoise


SeenWeights = tuple[LayerId, Tensor, tuple[int, int]]
"""(layer, weights [b heads n], grid)"""


class _Calls:
    """Model calls of one run; what depends only on the number of rows is made at the first call of each kind."""

    def __init__(
        self,
        model: Model,
        prompts: Prompts,
        cfg: float,
        settings: DciSettings,
        seen: list[SeenWeights] | None,
        together: Together | None = None,
    ) -> None:
        assert prompts.auxiliary is not None and prompts.tokens is not None
        self.model, self.settings, self.tokens, self.together = model, settings, prompts.tokens, together
        self.is_cond = [True] if cfg == 1 else [False, True]
        self.num_chunks = len(self.is_cond)
        self.texts = join_text([prompts.empty, prompts.concept, prompts.auxiliary])
        family = find_family(model.family)
        self.dbim, self.is_flow = settings.dbim(family), family.is_flow
        self.share_at = partial(settings.share_at, family)
        self.observe = None if seen is None else lambda *weights: seen.append(weights)
        self.plan, self.text, self.rule = cache(self._plan), cache(self._text), cache(self._rule)

    def at_once(self, batch: Tensor, sigma: float, acts: bool) -> Tensor:
        """x0 of all rows from one call."""
        plan = self.plan(len(batch), acts)
        is_ruled = bool(plan.branches.concept) or self.together is not None
        how = (acts, self.share_at(sigma) if acts else 1.0)
        rule = self.rule(len(batch), batch.device, size_of(batch), *how) if is_ruled else None
        x0 = denoise_at(self.model, plan.take(batch), sigma, self.text(plan), rule)
        return plan.fill(batch, x0, 1.0 if self.is_flow else spring_share(sigma))

    def in_halves(self, batch: Tensor, sigma: float, replay: Replay) -> Tensor:
        """x0 of all rows: the auxiliary's from the replay or a call of their own, then the concept's."""
        plan = self.plan(len(batch), True)
        parts, device = halves(plan), batch.device
        mine, others = (replace(plan, runs=rows) for rows in (parts.concept, parts.auxiliary))
        x, text = others.take(batch), self.text(others)

        def compute() -> AuxiliaryCall:
            keep: dict[LayerId, AuxiliaryView] = {}
            how = self.dbim.token_sharpness, device, self.dbim.blends_whole
            rule = keeping_rule(keep, self.dbim.shares, parts.kept, self.tokens.auxiliary, *how)
            return AuxiliaryCall(denoise_at(self.model, x, sigma, text, rule), keep)

        how = self.dbim.token_sharpness, self.dbim.blends_whole, kept_layers(self.dbim.shares)
        read = (self.tokens.auxiliary, parts.kept, *how)
        key = fingerprint(replay.owner(self.model), sigma, x, text.hidden, text.pooled, read)
        other = replay.call(key, device, compute)
        dbim = self.dbim.faded(self.share_at(sigma))
        rule = dbim_rule(dbim, parts.branches, self.tokens, device, self.observe, other.views, size_of(batch))
        x0 = denoise_at(self.model, mine.take(batch), sigma, self.text(mine), rule)
        return parts.merge(plan, batch, x0, other.x0)

    def _tags(self, num_rows: int) -> list[Tag]:
        return tags_of(self.is_cond, num_rows // self.num_chunks // 2)

    def _plan(self, num_rows: int, acts: bool) -> RowPlan:
        how = self.settings
        return plan_rows(
            self._tags(num_rows),
            acts=acts,
            guidance=how.guidance,
            num_chunks=self.num_chunks,
            one_auxiliary=how.one_auxiliary,
        )

    def _text(self, plan: RowPlan) -> Text:
        b = plan.num_rows // self.num_chunks // 2
        which = [text for cond in self.is_cond for text in ([1, 2] if cond else [0, 0]) * b]
        return pick_text(self.texts, [which[row] for row in plan.runs])

    def _rule(
        self, num_rows: int, device: torch.device, size: tuple[int, int], acts: bool, share: float
    ) -> AttentionRule:
        plan = self.plan(num_rows, acts)
        joins = dbim_rule(self.dbim.faded(share), plan.branches, self.tokens, device, self.observe, size=size)
        if self.together is None:
            return joins
        return kept_apart(self.together, rows_of_pair(self._tags(num_rows), plan), device, joins)


def size_of(latents: Tensor) -> tuple[int, int]:
    """(height, width)"""
    return latents.shape[-2], latents.shape[-1]


def kept_layers(shares: Mapping[LayerId, float]) -> list[LayerId]:
    """Layers that integrate."""
    return sorted(layer for layer, share in shares.items() if share)


def weight_maps(sigma: float, seen: Sequence[SeenWeights]) -> list[WeightMap]:
    """A step's maps from the layers' weights, [b heads n] -> [b h w]; one copy for all of them."""
    planes = [weights.mean(dim=1).detach().float() for _, weights, _ in seen]  # [b n]
    there = torch.split(torch.cat([plane.flatten() for plane in planes]).cpu(), [plane.numel() for plane in planes])
    return [
        WeightMap(layer, sigma, rearrange(flat, "(b h w) -> b h w", h=grid[0], w=grid[1]))
        for flat, (layer, _, grid) in zip(there, seen, strict=True)
    ]


def swapped_guided(model: Model, prompts: Prompts, cfg: float, window: float) -> Denoiser:
    """A control: one branch, prompted with the auxiliary prompt inside the window and the concept's after; no DBIM."""
    if prompts.auxiliary is None:
        raise BadSettings("the swap got no auxiliary prompt", "a pair is expected", "make it from a template")
    threshold = find_family(model.family).schedule.threshold(window)
    inside = guided(model, Prompts(prompts.auxiliary, prompts.empty), cfg)
    after = guided(model, prompts, cfg)
    return lambda x, sigma: (inside if is_open(sigma, threshold) else after)(x, sigma)
