"""Trains the small MM-DiT on cached latents, by rectified flow, with the text encoder frozen."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...flux.transformer import MMDiT, start_as_identity
from ...noise.schedule import logit_normal
from ..flow.model import SLOTS, TINY_FLOW
from ..text import TextEncoder, TextParams
from ..tokenizer import load_tokenizer
from ..world.dataset import COUPLES
from .loop import Optimiser, Stage, averaged, report, run_stage
from .muon import MuonAndAdamW
from .unet import cached_latents, cached_tokens

log = logging.getLogger(__name__)

STAGE = Stage(steps=3000, minutes=150, lr=1.5e-3, warm_up=100, average=0.998, save_every=100)
BATCH = 48
MUON_RATIO = 3.0  # Muon's learning rate over that of the rest
COUPLES_COUNT, COUPLE_SHARE = 5000, 0.15  # pictures of two objects, and how often a row is one of them
CAPTION_DROP = 0.1  # share of empty captions, for guidance
HIDE_PADDING = 0.5  # share of batches whose padding cannot be read: words keep the attention
LONGEST = 24  # slots that hold every caption: all that a batch with hidden padding needs
OFFSET_NOISE = 0.05  # so that snow gets white and night dark
SHIFT = 1.5  # of the drawn times towards noise


def times(count: int, generator: torch.Generator) -> Tensor:
    """[count] in 0..1: the sigmoid of a normal number, shifted towards noise; one from each count-th of the odds."""
    even = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return logit_normal(even, SHIFT)


def muon_for_blocks(model: nn.Module, stage: Stage) -> Optimiser:
    """Muon for the maps of the blocks, AdamW for the rest: embedders, modulations, norms, biases, the last layer."""
    matrices, others = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in model.named_parameters():
        inside = "_blocks." in name and "mod" not in name and parameter.ndim == 2
        (matrices if inside else others).append(parameter)
    return MuonAndAdamW(matrices, others, stage.lr, stage.weight_decay, MUON_RATIO)


def train(folder: Path, pictures_count: int, stage: Stage = STAGE) -> MMDiT:
    """The trained transformer (moving average)."""
    torch.manual_seed(stage.seed)
    latents = np.concatenate((cached_latents(folder, pictures_count), cached_latents(folder, COUPLES_COUNT, COUPLES)))
    tokens = cached_tokens(folder, pictures_count)
    tokens = torch.cat((tokens[:-1], cached_tokens(folder, COUPLES_COUNT, COUPLES)))
    empty = len(tokens) - 1  # row of the empty caption
    text = TextEncoder(TextParams(load_tokenizer().get_vocab_size()))
    text.load_state_dict(load_file(folder / "text.safetensors"))
    text.requires_grad_(False).eval()
    model = MMDiT(TINY_FLOW)
    start_as_identity(model)
    log.info("MM-DiT of %.2f M parameters, %d latents", sum(p.numel() for p in model.parameters()) / 1e6, len(latents))
    end, every = int(tokens[0, -1]), torch.arange(BATCH)
    assert bool((tokens[:, LONGEST - 1] == end).all()), "a caption is longer than a batch with hidden padding can hold"

    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows, couples = (torch.randint(n, (BATCH,), generator=generator) for n in (pictures_count, COUPLES_COUNT))
        rows = torch.where(torch.rand(BATCH, generator=generator) < COUPLE_SHARE, pictures_count + couples, rows)
        clean = torch.from_numpy(latents[rows.numpy()]).float()
        rows[torch.rand(BATCH, generator=generator) < CAPTION_DROP] = empty
        hide = bool(torch.rand((), generator=generator) < HIDE_PADDING)
        ids = tokens[rows, : LONGEST if hide else SLOTS]
        hidden = text(text.embeddings.token_embedding(ids))
        pooled = hidden[every, (ids == end).int().argmax(dim=1)]
        mask = (ids != end) | (rows == empty)[:, None] if hide else None
        t = times(BATCH, generator)
        noise = torch.randn(clean.shape, generator=generator)
        noise = noise + OFFSET_NOISE * torch.randn(BATCH, clean.shape[1], 1, 1, generator=generator)
        noisy = torch.lerp(clean, noise, t[:, None, None, None])
        errors = (model(noisy, t, hidden, pooled, mask=mask) - (noise - clean)).square().mean(dim=(1, 2, 3))
        coarse = errors.detach()[t > 0.7]
        return errors.mean(), {"coarse": float(coarse.mean())}

    steps = run_stage("mmdit", model, loss_of, stage, folder, make_optimiser=muon_for_blocks)
    report("mmdit", steps, stage.steps)
    model.load_state_dict(averaged("mmdit", folder))
    return model.eval()
