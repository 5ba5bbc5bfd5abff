"""Many prompts in one run: the core's denoisers, row by row with the row's own prompt.

The core draws one prompt at several seeds. A study asks eight prompts at few seeds, so runs of one prompt would be
small; here pictures of different prompts share a batch, and a test holds each to what the core alone would draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...attention.call import Attend, AttentionCall, AttentionRule
from ...concept.together import Part, without
from ...dci.branches import DciSettings
from ...dci.dbim import dbim_rule
from ...dci.guidance import denoise_at, guide
from ...dci.maps import BranchRows
from ...dci.row_plan import RowPlan, plan_rows, tags_of
from ...dci.run import Run, SampleSettings, make_run
from ...errors import BadSettings
from ...families.table import find_family
from ...model import Model
from ...noise.samplers import Denoiser
from ...noise.schedule import is_open
from ...text.captions import join_text, pick_text
from ...text.prompts import Prompts

TEXTS = 3  # of each prompt: empty, concept, auxiliary
Slots = Sequence[Sequence[int] | None]
"""Of each row of a call the concept's own words, or None where it reads another prompt."""


@dataclass(frozen=True)
class Scope:
    """Where a concept's key and value changes act: whole on its own words, elsewhere a share of them.

    part    the changes, and the strength that they were put on the model with
    common  share on words of the concept's prompt that are not its own, marks and padding among them
    others  share on other prompts
    """

    part: Part
    common: float
    others: float

    def rule(self, slots: Slots, then: AttentionRule | None) -> AttentionRule:
        """What is too much is taken off a call's keys and values before `then` acts."""
        acts = then or AttentionCall.plain

        def rule(call: AttentionCall) -> Tensor:
            return acts(without(call, [(self.part, self.off(slots, call.context))], call.context.device))

        return rule

    def off(self, slots: Slots, context: Tensor) -> Tensor:
        """[rows t 1], the share of the changes that is taken off each word."""
        off = torch.full(context.shape[:2], 1 - self.others)
        for row, own in enumerate(slots):
            if own is not None:
                off[row] = 1 - self.common
                off[row, list(own)] = 0.0
        return off[..., None]


@dataclass(frozen=True)
class Rows:
    """Pictures of one run: whose prompt each is, and its seed; `scope` None: the changes act everywhere."""

    prompts: Sequence[Prompts]
    owner: tuple[int, ...]
    seeds: tuple[int, ...]
    scope: Scope | None = None

    def plain(self, model: Model, cfg: float) -> Denoiser:
        """The ordinary guided denoiser over [b c h w]."""
        texts = join_text([text for p in self.prompts for text in (p.empty, p.concept)])
        empty, concept = [2 * i for i in self.owner], [2 * i + 1 for i in self.owner]

        def denoise(x: Tensor, sigma: float) -> Tensor:
            if cfg == 1:
                return denoise_at(model, x, sigma, pick_text(texts, concept), self.within(concept, 2))
            which = empty + concept
            both = denoise_at(model, torch.cat([x, x]), sigma, pick_text(texts, which), self.within(which, 2))
            return guide(both, cfg)

        return denoise

    def swapped(self, model: Model, cfg: float, window: float) -> Denoiser:
        """The auxiliary prompt inside the window, the concept's after it; no DBIM."""
        threshold = find_family(model.family).schedule.threshold(window)
        others = [replace(p, concept=need_auxiliary(p).auxiliary or p.concept) for p in self.prompts]
        inside, after = replace(self, prompts=others).plain(model, cfg), self.plain(model, cfg)
        return lambda x, sigma: (inside if is_open(sigma, threshold) else after)(x, sigma)

    def dual(self, model: Model, cfg: float, settings: DciSettings) -> Denoiser:
        """The dual branch's guided denoiser over [(b branch) c h w]."""
        family = find_family(model.family)
        dbim, threshold = settings.dbim(family), family.schedule.threshold(settings.window)
        is_cond = [True] if cfg == 1 else [False, True]
        whole = [need_auxiliary(p) for p in self.prompts]
        texts = join_text([text for p in whole for text in (p.empty, p.concept, p.auxiliary) if text is not None])

        def denoise(x: Tensor, sigma: float) -> Tensor:
            acts = is_open(sigma, threshold)
            now = dbim.faded(settings.share_at(family, sigma)) if acts else dbim
            plan = plan_rows(
                tags_of(is_cond, len(x) // 2),
                acts=acts,
                guidance=settings.guidance,
                num_chunks=len(is_cond),
            )
            which = [TEXTS * i + k for cond in is_cond for i in self.owner for k in ((1, 2) if cond else (0, 0))]
            rules = [dbim_rule(now, rows, p.tokens, x.device) for p, rows in self.parts(plan) if p.tokens is not None]
            batch = torch.cat([x] * len(is_cond))  # [(chunk b branch) c h w]
            runs = [which[row] for row in plan.runs]
            rule = self.within(runs, TEXTS, one_after_another(rules))
            x0 = plan.fill(batch, denoise_at(model, plan.take(batch), sigma, pick_text(texts, runs), rule))
            return x0 if cfg == 1 else guide(x0, cfg)

        return denoise

    def within(self, which: Sequence[int], texts: int, then: AttentionRule | None = None) -> AttentionRule | None:
        """`then` inside the scope; `which` text each row of a call reads, of so many a prompt, the concept's second."""
        if self.scope is None:
            return then
        slots = [own_slots(self.prompts[text // texts]) if text % texts == 1 else None for text in which]
        return self.scope.rule(slots, then)

    def parts(self, plan: RowPlan) -> list[tuple[Prompts, BranchRows]]:
        """Per prompt the rows that DBIM joins; none where it does not act."""
        if not plan.branches.concept:
            return []
        found = []
        for i, prompts in enumerate(self.prompts):
            mine = [k for k, owner in enumerate(self.owner) if owner == i]
            if mine:
                concept, auxiliary = plan.branches.concept, plan.branches.auxiliary
                rows = BranchRows(tuple(concept[k] for k in mine), tuple(auxiliary[k] for k in mine))
                found.append((prompts, rows))
        return found


def need_auxiliary(prompts: Prompts) -> Prompts:
    """The prompts, or BadSettings where they are no pair."""
    if prompts.auxiliary is None or prompts.tokens is None:
        raise BadSettings("a prompt has no auxiliary prompt", "a pair is expected", "make it from a template")
    return prompts


def own_slots(prompts: Prompts) -> tuple[int, ...]:
    """The concept's words in its prompt; raises BadSettings where nobody told them."""
    if prompts.tokens is None:
        raise BadSettings("a prompt does not tell its concept's words", "a pair is expected", "make it from a template")
    return prompts.tokens.concept.span


def one_after_another(rules: Sequence[AttentionRule]) -> AttentionRule | None:
    """The rules as one: each finds as the plain result what the one before made. They touch different rows."""

    def rule(call: AttentionCall) -> Tensor:
        out = call.plain()
        for each in rules:
            out = each(replace(call, attend=already(out)))
        return out

    return rule if rules else None


def already(out: Tensor) -> Attend:
    """Attention that is done."""
    return lambda q, k, v, heads: out


def start_run(model: Model, rows: Rows, settings: SampleSettings) -> Run:
    """A run of all pictures; each gets the noise of its seed."""
    return make_run(model, rows.prompts[0], seeds=rows.seeds, settings=settings)


@torch.no_grad()
def draw_rows(
    model: Model, rows: Rows, settings: SampleSettings, dci: DciSettings | None = None, swap_window: float = 0.0
) -> Tensor:
    """Latents [b c h w]: plain, with DCI, or with the prompts swapped inside a window."""
    run = start_run(model, rows, settings)
    if swap_window:
        if rows.scope is not None:
            raise BadSettings("a scope came with a swap", "one of them is expected", "leave one out")
        return run.single(rows.swapped(model, settings.cfg, swap_window))
    if dci is None or dci.is_off(find_family(model.family)):
        return run.single(rows.plain(model, settings.cfg))
    threshold = find_family(model.family).schedule.threshold(dci.window)
    return run.dual(rows.dual(model, settings.cfg, dci), dci, threshold)[0]
