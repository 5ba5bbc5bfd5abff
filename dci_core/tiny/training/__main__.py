"""python -m dci_core.tiny.training STAGE --cache DIR --out DIR: trains one part of the small world."""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

from safetensors.torch import save_file


def main() -> None:
    """Trains and writes OUT/<stage>.safetensors in fp16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("codec", "text", "unet", "judge"))
    parser.add_argument("--cache", type=Path, default=Path("out/world"))
    parser.add_argument("--out", type=Path, default=Path("out/world"))
    parser.add_argument("--pictures", type=int, default=60_000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    part = importlib.import_module(f".{options.stage}", __package__).train(options.cache, options.pictures)
    save_file({k: v.half().contiguous() for k, v in part.state_dict().items()}, options.out / f"{options.stage}.safetensors")


if __name__ == "__main__":
    main()
