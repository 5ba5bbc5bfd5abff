"""Trains the codec: pictures in, pictures out, through a noisy latent."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..codec import Codec
from ..world.dataset import render_dataset
from .loop import Stage, averaged, channels_last, report, run_stage

STAGE = Stage(steps=4000, minutes=45, lr=1.5e-3, warm_up=200, weight_decay=0.0)
BATCH, LATENT_NOISE = 8, 0.05


def train(folder: Path, pictures_count: int, stage: Stage = STAGE) -> Codec:
    """The trained codec, its latents standardised over 2,000 pictures.

    Where it begins from weights, its encoder stays as it is, so that the latents of a trained U-Net stay valid.
    """
    torch.manual_seed(stage.seed)
    pictures, _ = render_dataset(folder, pictures_count)
    codec = channels_last(Codec())
    codec.encoder.requires_grad_(stage.begin_from is None)

    def batch(rows: Tensor) -> Tensor:
        return torch.from_numpy(pictures[rows.numpy()]).permute(0, 3, 1, 2).float() / 255

    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        target = batch(torch.randint(len(pictures), (BATCH,), generator=generator)) * 2 - 1
        latents = codec.encoder(target.to(memory_format=torch.channels_last))
        spread = latents.std(dim=(0, 2, 3))
        noise = torch.randn(latents.shape, generator=generator) * LATENT_NOISE
        result = codec.decoder(latents + noise * spread.detach()[:, None, None])
        square = (result - target).square().mean()
        tidy = (spread.log().square().mean() + latents.mean(dim=(0, 2, 3)).square().mean()) * 1e-3
        psnr = float(-10 * (square.detach() / 4).log10())
        return square + 0.25 * (result - target).abs().mean() + tidy, {"psnr": psnr}

    report("codec", run_stage("codec", codec, loss_of, stage, folder), stage.steps)
    codec.load_state_dict(averaged("codec", folder))
    codec.eval()
    if stage.begin_from is not None:
        return codec
    with torch.no_grad():
        latents = torch.cat([codec.encoder(batch(rows) * 2 - 1) for rows in torch.split(torch.arange(2000), 50)])
        codec.mean.copy_(latents.mean(dim=(0, 2, 3))[None, :, None, None])
        codec.std.copy_(latents.std(dim=(0, 2, 3))[None, :, None, None])
    return codec
