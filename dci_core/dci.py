"""Dual-branch guidance (DCI): the denoisers that a sampler steps with.

Source: Jin et al., ECCV 2024 (arXiv 2412.04831); the window and the guidance modes from the released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor

from .attention import AttentionRule
from .branches import DciSettings, plan_rows
from .captions import join_text, pick_text
from .dbim import dbim_rule
from .errors import BadSettings
from .families import find_family
from .layers import LayerId
from .model import Model, Text
from .prompts import Prompts
from .samplers import Denoiser
from .schedule import is_open, sd_schedule, window_threshold


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


def guided(model: Model, prompts: Prompts, cfg: float) -> Denoiser:
    """The ordinary guided denoiser over [b c h w]; cfg 1 runs the prompt alone."""
    both = join_text([prompts.empty, prompts.concept])

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if cfg == 1:
            return denoise_at(model, x, sigma, pick_text(prompts.concept, [0] * len(x)))
        text = pick_text(both, [0] * len(x) + [1] * len(x))
        return guide(denoise_at(model, torch.cat([x, x]), sigma, text), cfg)

    return denoise


def dual_guided(
    model: Model, prompts: Prompts, cfg: float, settings: DciSettings, record: list[WeightMap] | None = None
) -> Denoiser:
    """The dual branch's guided denoiser over [(b branch) c h w]; rows that need not run return their input.

    record  gets the weights of every layer that integrates
    """
    auxiliary, tokens = prompts.auxiliary, prompts.tokens
    if auxiliary is None or tokens is None:
        raise BadSettings("DCI got no auxiliary prompt", "a pair of prompts is expected", "make it from a template")
    dbim = settings.dbim(find_family(model.family))
    threshold = window_threshold(settings.window, sd_schedule().sigma)
    is_cond = [True] if cfg == 1 else [False, True]
    texts = join_text([prompts.empty, prompts.concept, auxiliary])

    def denoise(x: Tensor, sigma: float) -> Tensor:
        b = len(x) // 2
        plan = plan_rows(is_cond, b, acts=is_open(sigma, threshold), guidance=settings.guidance)
        which = [text for cond in is_cond for text in ([1, 2] if cond else [0, 0]) * b]
        observe = None if record is None else partial(keep_weights, record, sigma)
        rule = dbim_rule(dbim, plan.branches, tokens, x.device, observe) if plan.branches.concept else None
        batch = torch.cat([x] * len(is_cond))  # [(chunk b branch) c h w]
        x0 = denoise_at(model, plan.take(batch), sigma, pick_text(texts, [which[row] for row in plan.runs]), rule)
        x0 = plan.fill(batch, x0)
        return x0 if cfg == 1 else guide(x0, cfg)

    return denoise


def keep_weights(record: list[WeightMap], sigma: float, layer: LayerId, weights: Tensor, grid: tuple[int, int]) -> None:
    """Appends one layer's weights, [b heads n] -> [b h w], to a record."""
    planes = rearrange(weights.mean(dim=1), "b (h w) -> b h w", h=grid[0])
    record.append(WeightMap(layer, sigma, planes.detach().float().cpu()))


def swapped_guided(model: Model, prompts: Prompts, cfg: float, window: float) -> Denoiser:
    """A control: one branch, prompted with the auxiliary prompt inside the window and the concept's after; no DBIM."""
    if prompts.auxiliary is None:
        raise BadSettings("the swap got no auxiliary prompt", "a pair is expected", "make it from a template")
    threshold = window_threshold(window, sd_schedule().sigma)
    inside = guided(model, Prompts(prompts.auxiliary, prompts.empty), cfg)
    after = guided(model, prompts, cfg)
    return lambda x, sigma: (inside if is_open(sigma, threshold) else after)(x, sigma)
