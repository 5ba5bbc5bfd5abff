"""The command `adapter-convert`: a public IP-Adapter's .bin to safetensors, which the nodes read."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..image_prompt.convert import convert_bin
from .console import Console
from .places import check_out


def add_convert(parser: ArgumentParser) -> None:
    """Options of `adapter-convert`."""
    parser.set_defaults(run=convert)
    parser.add_argument(
        "--in", dest="path_in", type=Path, required=True, metavar="FILE", help="XLabs' or InstantX's .bin for FLUX"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors")


def convert(options: Namespace, console: Console) -> int:
    """Writes the adapter again, without running any code of the file."""
    out = check_out(options.out, (".safetensors",))
    params = convert_bin(options.path_in, out)
    about = {
        "adapter": str(out),
        "megabytes": round(out.stat().st_size / 1e6, 3),
        "family": params.family,
        "vision": f"{params.vision_output} vector, {params.vision_width} wide",
        "tokens": params.tokens,
        "blocks": len(params.block_ids),
    }
    text = f"{out}: {params.family}, {about['blocks']} blocks, {params.tokens} tokens of a {about['vision']}"
    console.result(about, text)
    return 0
