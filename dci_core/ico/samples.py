"""Pictures of what a training has learned so far, drawn from noise; the training itself is not touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..attention.call import AttentionRule
from ..dci.guidance import guided
from ..dci.run import Run, SampleSettings
from ..families.table import find_family
from ..model import Model, Text
from ..noise.flow_schedule import EVEN, FlowSchedule
from ..noise.process import sd_sigmas
from ..noise.schedule import Schedule
from ..text.captions import encode_captions, read_caption
from ..text.prompts import Prompts
from ..text.tokens import PLACEHOLDER
from .contexts import ContextWords, lay_out
from .state import TrainState
from .texts import text_on

SAMPLING = SampleSettings(num_steps=12, cfg=5.0, sampler="dpmpp_2m", spacing="karras")
COVER_PROMPT = f"a {PLACEHOLDER}"
NO_CONTEXTS = ContextWords(0, 0)


@dataclass(frozen=True)
class Trained:
    """A model whose keys and values are those of a training (part of the core's `Model`)."""

    model: Model
    rule: AttentionRule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def denoise(self, x: Tensor, sigma: Tensor, text: Text, rule: AttentionRule | None = None) -> Tensor:
        """The trained model's x0."""
        return self.model.denoise(x, sigma, text, self.rule)


@torch.no_grad()
def draw_sample(
    model: Model,
    state: TrainState,
    prompt: str = COVER_PROMPT,
    *,
    shape: Sequence[int],
    sigmas: Tensor | None = None,
    seed: int = 0,
    on_step: Callable[..., None] | None = None,
) -> Tensor:
    """The latent [1 c h w] of one picture, drawn without DCI; raises SpanNotFound, PromptTooLong.

    prompt  with `{concept}` once
    shape   (c, h, w) of the latent
    sigmas  [n], noise level of each training timestep of a diffusion; None: Stable Diffusion's
    """
    device, family = state.learned.deltas.device, find_family(state.family)
    schedule: Schedule | FlowSchedule = FlowSchedule(family.shift)
    if not family.is_flow:
        schedule = Schedule((sd_sigmas() if sigmas is None else sigmas).double().cpu().log())
    sampling = replace(SAMPLING, spacing=EVEN) if family.is_flow else SAMPLING
    empty = encode_captions(model, [""])
    prompts = Prompts(text_on(concept_text(model, state, prompt), device), text_on(empty, device))
    levels = schedule.spaced(sampling.spacing, sampling.num_steps)
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    run = Run((seed,), levels, sampling, size, torch.empty(0, device=device), schedule, on_step=on_step)
    trained: Any = Trained(model, state.learned.deltas.rule(holds_first=family.has_begin_mark))
    return run.single(guided(trained, prompts, sampling.cfg))


def concept_text(model: Model, state: TrainState, prompt: str) -> Text:
    """One row of text with the learned modifier tokens, and none of the contexts, as a finished concept is used."""
    caption, count = read_caption(prompt), state.settings.modifier_tokens
    embeds: dict[str, Tensor] = {}
    ends: dict[str, Tensor] = {}
    for name, encoder in model.encoders.items():
        layout = lay_out(encoder, caption, state.noun, count, NO_CONTEXTS)
        rows, slots = layout.rows, layout.tokens
        known = state.learned.text.tokens
        tokens = known[name].detach().to(rows) if name in known else rows[slots]
        embeds[name] = torch.cat([rows[: slots.start], tokens, rows[slots.stop :]])[None]
        ends[name] = torch.tensor([layout.end])
    return model.encode(embeds, ends)
