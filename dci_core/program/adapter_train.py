"""The command `adapter-train`: pairs of pictures to an image prompt adapter, on one process or many."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from ..dynaip.adapter import Adapter, AdapterParams
from ..dynaip.adapter_file import PRECISIONS, load_adapter
from ..dynaip.training.base import FlowBase
from ..dynaip.training.crew import Crew, make_crew
from ..dynaip.training.folder import FEWEST, LAYOUT, read_folder
from ..dynaip.training.pairs import PairSource
from ..dynaip.training.settings import CHOICES, AdapterSettings, check_settings
from ..errors import BadAdapter, BadSettings, PackError
from ..tiny.pairs import TINY_WORLD, TinyPairs
from ..tiny.world.scene import PICTURE_SIZE
from .adapter_course import AdapterCourse, check_course, learn_adapter, start_adapter
from .bases import add_base, open_base, read_params, usual_params
from .choices import chosen
from .console import Console
from .places import check_out
from .train import INTERRUPTED, report_stop
from .training import Stopped

BAD_INPUT = 2
FOLDER_HELP = f"""
the folder of --data: {LAYOUT}, all of it describing the picture in plain words; cat.mask.png beside it, white on the
subject, lets the reference be shown without its background. A picture of a subject is drawn while another one of the
same subject is read; with --same-picture 1 it is read itself, and one picture of a subject is enough.

several GPUs: `accelerate launch -m dci_core adapter-train ...` with the same options; `accelerate config` says how
(DDP, or FSDP version 2). Several processes on one CPU: `torchrun --standalone --nproc_per_node 2 -m dci_core
adapter-train --cpu ...`. --batch counts the rows of all processes together.

what is published fact and what is our reconstruction: the wiring (text and image rows both read the reference in
training) is published; sizes, losses, drops and rates are a recipe of ours, from IP-Adapter.
"""


def add_adapter_train(parser: argparse.ArgumentParser) -> None:
    """Options of `adapter-train`."""
    parser.set_defaults(run=adapter_train)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FOLDER_HELP
    parser.add_argument(
        "--data", required=True, metavar="DIR", help=f"pictures of subjects, or {TINY_WORLD}: painted on the fly"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the adapter, .safetensors")
    parser.add_argument("--begin-from", type=Path, metavar="FILE", help="an adapter to train on, with its shape")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished training beside --out")
    parser.add_argument("--restart", action="store_true", help="begin anew over an unfinished training")
    parser.add_argument("--save-every", type=int, default=500, metavar="STEPS", help="how often it is kept")
    parser.add_argument("--sheet-every", type=int, default=500, metavar="STEPS", help="a PNG beside --out; 0: none")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that make pairs ahead of time")
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="bf16", help="of the numbers in the file")
    numbers = parser.add_argument_group("settings")
    for name in ("steps", "batch", "accumulation", "warmup-steps", "seed"):
        numbers.add_argument(f"--{name}", type=int)
    for name in ("learning-rate", "weight-decay", "clip-norm", "ema", "noise-shift"):
        numbers.add_argument(f"--{name}", type=float)
    for name in ("image", "text", "both"):
        numbers.add_argument(f"--drop-{name}", type=float, metavar="SHARE", help="of rows, 0..1")
    numbers.add_argument("--cut-out", type=float, metavar="SHARE", help="of references shown on white, 0..1")
    numbers.add_argument("--same-picture", type=float, metavar="SHARE", help="of rows that read what they draw, 0..1")
    for name, choices in CHOICES.items():
        numbers.add_argument(f"--{name}", choices=choices)
    numbers.add_argument("--bf16", action="store_true", default=None, help="passes in bfloat16")
    add_base(parser)


def adapter_train(options: Namespace, console: Console) -> int:
    """Trains and saves; everything that can be wrong is found out before the first step."""
    settings = chosen(AdapterSettings(), options)
    check_settings(settings)
    crew = make_crew(bf16=settings.bf16, accumulation=settings.accumulation, is_cpu=options.cpu)
    try:
        return run(options, settings, crew, console)
    except PackError:
        if crew.is_main:
            raise
        return BAD_INPUT  # the first process has said why


def run(options: Namespace, settings: AdapterSettings, crew: Crew, console: Console) -> int:
    """The command in one of the processes that train together."""
    out = check_out(options.out, (".safetensors",))
    base = open_base(options, crew.device, bf16=settings.bf16)
    params = read_params(options, base)
    adapter = None if options.begin_from is None else read_start(options.begin_from, params, base)
    params = params if adapter is None else adapter.params
    often = options.save_every, options.sheet_every, options.workers, options.precision
    course = AdapterCourse(settings, params, out, *often)
    check_course(course, resumes=options.resume, restarts=options.restart)
    source = open_pairs(options.data, base, alone=settings.same_picture == 1)
    crew.wait()  # nobody writes before everybody has looked
    training = start_adapter(base, source, course, crew, resumes=options.resume, adapter=adapter)
    try:
        loss = learn_adapter(base, source, training, course, crew, console)
    except Stopped as stopped:
        return report_stop(stopped, options, console) if crew.is_main else INTERRUPTED
    if crew.is_main:
        facts = {"adapter": str(out), "data": source.name, "steps": settings.steps, "loss": loss}
        console.result(facts, f"{out}: an adapter from {source.name} in {settings.steps} steps, loss {loss:.4f}")
    return 0


def open_pairs(data: str, base: FlowBase, *, alone: bool) -> PairSource:
    """Where the pairs come from; alone: one picture of a subject is enough. Raises BadPicture, BadSettings."""
    if data != TINY_WORLD:
        return read_folder(Path(data), base.size, 1 if alone else FEWEST)
    if base.size != PICTURE_SIZE:
        raise BadSettings(
            f"{TINY_WORLD} is painted at {PICTURE_SIZE} px and the base draws {base.size}",
            "pictures of the base's own size were expected",
            "name a folder of pictures with --data",
        )
    return TinyPairs()


def read_start(path: Path, asked: AdapterParams, base: FlowBase) -> Adapter:
    """The adapter of a file to train on; raises BadAdapter for a public ancestor's, BadSettings for another shape."""
    adapter = load_adapter(path, family=base.family)
    if not isinstance(adapter, Adapter):
        raise BadAdapter(
            f'"{path.name}" reads one pooled vector', "an adapter of this program was expected", "begin anew"
        )
    if asked not in (adapter.params, usual_params(base)):
        raise BadSettings(
            f'"{path.name}" has a shape of its own and the options ask for another one',
            "one of the two was expected",
            "leave the options of the shape out",
        )
    return adapter
