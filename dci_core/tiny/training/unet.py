"""Trains the U-Net on cached latents, predicting noise, with the text encoder frozen."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import mse_loss

from ...noise.schedule import sd_schedule
from ..codec import Codec
from ..text import TextEncoder, TextParams
from ..tokenizer import frame, load_tokenizer, marks
from ..unet import UNet
from ..unet_blocks import ResBlock, SpatialTransformer
from ..world.dataset import SINGLES, Kind, render_dataset
from .loop import Stage, averaged, channels_last, report, run_stage

log = logging.getLogger(__name__)

STAGE = Stage(steps=2600, minutes=150, lr=1e-3, warm_up=150, average=0.998, save_every=250)
BATCH = 16  # of each worker
CAPTION_DROP = 0.1  # share of empty captions, for guidance
HIDE_PADDING = 0.5  # share of rows whose padding cannot be read: words keep the attention
OFFSET_NOISE = 0.05  # so that snow gets white and night dark
FULL_WEIGHT_SNR = 5.0  # steps cleaner than this are drawn more rarely


def cached_latents(folder: Path, count: int, kind: Kind = SINGLES) -> NDArray[np.float16]:
    """[count 8 16 16] fp16 latents of the rendered pictures."""
    file = folder / f"{kind.prefix}latents-{count}.npy"
    if not file.exists():
        codec = Codec()
        codec.load_state_dict(load_file(folder / "codec.safetensors"))
        codec = channels_last(codec.eval())
        pictures, _ = render_dataset(folder, count, kind)
        rows = []
        with torch.no_grad():
            for start in range(0, count, 200):
                batch = torch.from_numpy(np.array(pictures[start : start + 200])).permute(0, 3, 1, 2)
                rows.append(codec.encode(batch.to(memory_format=torch.channels_last).float() / 255).half().numpy())
        part = file.with_suffix(".part.npy")
        np.save(part, np.concatenate(rows))
        part.replace(file)
    return np.load(file)


def cached_tokens(folder: Path, count: int, kind: Kind = SINGLES) -> Tensor:
    """[count 77] framed token ids of the captions; row count holds the empty caption."""
    _, captions = render_dataset(folder, count, kind)
    tokenizer = load_tokenizer()
    begin, end = marks()
    return torch.stack([frame(row.ids, begin, end) for row in tokenizer.encode_batch([*captions, ""])])


def start_as_identity(unet: UNet) -> None:
    """Zeroes the last layer of every residual path, so that training starts from plain skips."""
    for block in unet.modules():
        if isinstance(block, ResBlock):
            last = block.out_layers[-1]
        elif isinstance(block, SpatialTransformer):
            last = block.proj_out
        elif isinstance(block, UNet):
            last = block.out[-1]
        else:
            continue
        for parameter in last.parameters():
            torch.nn.init.zeros_(parameter)


def timestep_odds() -> Tensor:
    """How often each timestep is trained, [1000]: evenly, but the cleanest ones less."""
    kept = sd_schedule().alphas_cumprod
    return (FULL_WEIGHT_SNR / (kept / (1 - kept))).clamp(0.1, 1.0).float()


def train(folder: Path, pictures_count: int, stage: Stage = STAGE) -> UNet:
    """The trained U-Net (moving average)."""
    torch.manual_seed(stage.seed)
    latents, tokens = cached_latents(folder, pictures_count), cached_tokens(folder, pictures_count)
    text = TextEncoder(TextParams(load_tokenizer().get_vocab_size()))
    text.load_state_dict(load_file(folder / "text.safetensors"))
    text.requires_grad_(False).eval()
    unet = channels_last(UNet())
    start_as_identity(unet)
    log.info("U-Net of %.2f M parameters, %d latents", sum(p.numel() for p in unet.parameters()) / 1e6, len(latents))
    kept, odds, end = sd_schedule().alphas_cumprod.float(), timestep_odds(), int(tokens[0, -1])

    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(pictures_count, (BATCH,), generator=generator)
        clean = torch.from_numpy(latents[rows.numpy()]).float()
        rows[torch.rand(BATCH, generator=generator) < CAPTION_DROP] = pictures_count
        ids = tokens[rows]
        hidden = text(text.embeddings.token_embedding(ids))
        hide = torch.rand(BATCH, 1, generator=generator) < HIDE_PADDING
        mask = ~(hide & (ids == end) & (rows != pictures_count)[:, None])
        timesteps = torch.multinomial(odds, BATCH, replacement=True, generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        noise = noise + OFFSET_NOISE * torch.randn(BATCH, clean.shape[1], 1, 1, generator=generator)
        share = kept[timesteps][:, None, None, None]
        noisy = (share.sqrt() * clean + (1 - share).sqrt() * noise).to(memory_format=torch.channels_last)
        errors = mse_loss(unet(noisy, timesteps, hidden, mask=mask), noise, reduction="none").mean(dim=(1, 2, 3))
        coarse = errors.detach()[timesteps > 500]
        return errors.mean(), {"coarse": float(coarse.mean()) if len(coarse) else 0.0}

    report("unet", run_stage("unet", unet, loss_of, stage, folder), stage.steps)
    unet.load_state_dict(averaged("unet", folder))
    return unet.eval()
