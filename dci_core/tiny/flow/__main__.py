"""The program that judges the flow model: python -m dci_core.tiny.flow [--checkpoint mmdit.pt] [--sheet sheet.png]."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...flux.transformer import MMDiT
from ..codec import Codec
from ..judge import Judge
from ..model import load_part
from ..text import TextEncoder, TextParams
from ..tokenizer import load_tokenizer
from .gates import drawn, flow_asks, flow_gate
from .model import TINY_FLOW, FlowModel
from .sampling import FlowSettings

log = logging.getLogger(__name__)


def main() -> None:
    """Draws prompts, has them judged, logs the shares."""
    parser = argparse.ArgumentParser(prog="python -m dci_core.tiny.flow", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="of a training still running; else the shipped weights")
    parser.add_argument("--sheet", type=Path, help="PNG of the pictures, eight in a row")
    parser.add_argument("--count", type=int, default=120, help="prompts, one picture each")
    parser.add_argument("--steps", type=int, default=FlowSettings.num_steps)
    parser.add_argument("--cfg", type=float, default=FlowSettings.cfg)
    parser.add_argument("--shift", type=float, default=FlowSettings.shift)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    codec, judge = Codec(), Judge()
    load_part("codec", codec), load_part("judge", judge)
    asks = flow_asks(options.count)
    settings = FlowSettings(options.steps, options.cfg, options.shift)
    pictures = drawn(model_of(options.checkpoint), codec, asks, settings)
    for found in flow_gate(judge, pictures, asks):
        log.info("%s: %.3f", found.what, found.value)
    if options.sheet is not None:
        sheet_of(pictures).save(options.sheet)


def model_of(checkpoint: Path | None) -> FlowModel:
    """The model with the shipped weights, or with a checkpoint's moving average."""
    text, mmdit = TextEncoder(TextParams(load_tokenizer().get_vocab_size())), MMDiT(TINY_FLOW)
    load_part("text", text)
    if checkpoint is None:
        load_part("mmdit", mmdit)
    else:
        mmdit.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    return FlowModel(text, mmdit.eval().requires_grad_(False))


def sheet_of(pictures: Tensor) -> Image.Image:
    """One picture of all [b 3 h w], eight in a row."""
    rows = [torch.cat(list(pictures[i : i + 8]), dim=2) for i in range(0, len(pictures) - len(pictures) % 8, 8)]
    return Image.fromarray((torch.cat(rows, dim=1) * 255).byte().permute(1, 2, 0).numpy())


if __name__ == "__main__":
    main()
