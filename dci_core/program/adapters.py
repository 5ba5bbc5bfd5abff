"""The command `adapter-convert`: a public IP-Adapter as safetensors, which the nodes read."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..dynaip.convert import convert_adapter
from .console import Console
from .places import check_out


def add_convert(parser: ArgumentParser) -> None:
    """Options of `adapter-convert`."""
    parser.set_defaults(run=convert)
    parser.add_argument(
        "--in",
        dest="path_in",
        type=Path,
        required=True,
        metavar="FILE",
        help="XLabs' or InstantX's .bin for FLUX; with --vision also .safetensors",
    )
    parser.add_argument(
        "--vision",
        type=Path,
        metavar="FILE",
        help="for InstantX: the SigLIP's .safetensors (sigclip_vision_patch14_384), whose pooling head goes into --out",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors")


def convert(options: Namespace, console: Console) -> int:
    """Writes the adapter again, without running any code of the file."""
    out = check_out(options.out, (".safetensors",))
    params = convert_adapter(options.path_in, out, vision=options.vision)
    lacks_head = params.vision_output == "pooled"
    about = {
        "adapter": str(out),
        "megabytes": round(out.stat().st_size / 1e6, 3),
        "family": params.family,
        "vision": f"{params.reads}, {params.vision_width} wide",
        "tokens": params.tokens,
        "blocks": len(params.block_ids),
        "for_comfyui": not lacks_head,
    }
    text = f"{out}: {params.family}, {about['blocks']} blocks, {params.tokens} tokens of the {about['vision']}"
    if lacks_head:
        about["do"] = f"python -m dci_core adapter-convert --in {options.path_in} --vision SIGLIP --out {out}"
        text += f"\nComfyUI cannot use it before it holds the vision model's pooling head: {about['do']}"
    console.result(about, text)
    return 0
