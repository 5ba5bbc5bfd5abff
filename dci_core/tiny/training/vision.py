"""Trains the vision tower to tell which caption belongs to which picture, against the frozen text encoder."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ..flow.vision import VisionTower
from ..text import TextEncoder, TextParams
from ..tokenizer import load_tokenizer
from ..world.dataset import render_dataset
from .loop import Stage, averaged, report, run_stage
from .mmdit import LONGEST
from .unet import cached_tokens

log = logging.getLogger(__name__)

STAGE = Stage(steps=700, minutes=45, lr=1e-3, warm_up=50, average=0.99, save_every=50)
BATCH = 96
FIRST_SHARPNESS, LAST_SHARPNESS = 10.0, 100.0  # factor on cosines; CLIP's own starts at 14 and ends at 100


class Contrast(nn.Module):
    """The tower, and what is thrown away afterwards: a map of the text's vectors and the sharpness."""

    def __init__(self, tower: VisionTower, text_width: int) -> None:
        super().__init__()
        self.tower, self.text_map = tower, nn.Linear(text_width, tower.params.projection)
        self.log_sharpness = nn.Parameter(torch.tensor(FIRST_SHARPNESS).log())

    def forward(self, pictures: Tensor, pooled: Tensor) -> Tensor:
        """Logits [pictures captions]."""
        images = self.tower.project(self.tower.states(pictures))
        cosines = normalize(images, dim=1) @ normalize(self.text_map(pooled), dim=1).mT
        return cosines * self.log_sharpness.exp().clamp(max=LAST_SHARPNESS)


def same_caption(ids: Tensor) -> Tensor:
    """Shares [b b] of each picture's captions: its own and those in the same words, evenly."""
    same = (ids[:, None] == ids[None]).all(dim=-1).float()
    return same / same.sum(dim=1, keepdim=True)


def train(folder: Path, pictures_count: int, stage: Stage = STAGE) -> VisionTower:
    """The trained tower (moving average)."""
    torch.manual_seed(stage.seed)
    pictures, _ = render_dataset(folder, pictures_count)
    tokens = cached_tokens(folder, pictures_count)[:, :LONGEST]
    text = TextEncoder(TextParams(load_tokenizer().get_vocab_size()))
    text.load_state_dict(load_file(folder / "text.safetensors"))
    text.requires_grad_(False).eval()
    task, end = Contrast(VisionTower(), text.params.width), int(tokens[0, -1])
    count = sum(p.numel() for p in task.tower.parameters()) / 1e6
    log.info("vision tower of %.2f M parameters, %d pictures", count, len(pictures))

    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(pictures_count, (BATCH,), generator=generator)
        seen = torch.from_numpy(pictures[rows.numpy()]).permute(0, 3, 1, 2).float() / 255
        seen = seen.flip(-1) if torch.rand((), generator=generator) < 0.5 else seen
        ids = tokens[rows]
        hidden = text(text.embeddings.token_embedding(ids))
        logits = task(seen, hidden[torch.arange(BATCH), (ids == end).int().argmax(dim=1)])
        shares = same_caption(ids)
        right = shares.gather(1, logits.argmax(dim=1, keepdim=True)) > 0
        loss = (cross_entropy(logits, shares) + cross_entropy(logits.mT, shares)) / 2
        return loss, {"right": float(right.float().mean())}

    report("vision", run_stage("vision", task, loss_of, stage, folder, shipped=task.tower), stage.steps)
    task.load_state_dict(averaged("vision", folder))
    return task.tower.eval()
