"""The command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from ..dci.branches import GAINS, GUIDANCE
from ..errors import BadSettings
from ..families.table import FAMILIES
from ..ico.settings import CHOICES
from ..noise.samplers import SAMPLERS
from ..noise.schedule import SPACINGS
from ..studies.dci.protocol import GROUND
from ..studies.dci.study import USUAL
from ..studies.flow.study import USUAL as FLOW_USUAL
from ..text.stand_ins import AUTO
from ..tiny.defaults import DEFAULTS, FLOW, UNET
from ..tiny.model import WEIGHTS
from ..tiny.world.concepts import KINDS
from . import (
    adapter_evidence,
    adapter_train,
    adapters,
    checkpoint_evidence,
    concepts,
    demo,
    evidence,
    sample,
    score,
    train,
    two_evidence,
    world,
)
from .help_texts import tell_defaults


class Parser(argparse.ArgumentParser):
    """A parser that complains in one sentence, like everything else here."""

    def error(self, message: str) -> NoReturn:
        """Raises BadSettings."""
        raise BadSettings(message, f"the options of `{self.prog}` were expected", "see them with --help")


def make_parser() -> Parser:
    """All commands and their options; what has no default here has it in the settings that `help_texts` shows."""
    parser = Parser(prog="python -m dci_core", description="Teach the small world a concept, and draw it in any scene.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    plain = Parser(add_help=False)
    plain.add_argument("--json", action="store_true", help="one JSON object on stdout")
    common = Parser(add_help=False, parents=[plain])
    common.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="other weights of the small world")
    add_train(commands.add_parser("train", parents=[common], help="a folder of pictures to a concept file"))
    add_sample(commands.add_parser("sample", parents=[common], help="a concept and prompts to a grid of pictures"))
    add_concepts(commands, plain, common)
    judge = commands.add_parser("score", parents=[plain], help="CLIP-T, CLIP-I and DINO of pictures of a concept")
    score.add_score(judge)
    show = commands.add_parser("demo", parents=[common], help="train one concept, draw it with and without DCI")
    show.add_argument("--out", type=Path, default=Path("out/demo.png"), help="the sheet; numbers go beside it")
    show.add_argument("--steps", type=int, help="training steps")
    show.set_defaults(run=demo.demo)
    add_evidence(commands.add_parser("evidence", parents=[common], help="measure ICO and DCI against plain dials"))
    checkpoint_evidence.add_checkpoint_evidence(
        commands.add_parser(
            "checkpoint-evidence", parents=[plain], help="the same on a checkpoint, by a running ComfyUI"
        )
    )
    adapters.add_convert(
        commands.add_parser("adapter-convert", parents=[plain], help="a public IP-Adapter to safetensors")
    )
    learn = commands.add_parser("adapter-train", parents=[plain], help="pairs of pictures to an image prompt adapter")
    adapter_train.add_adapter_train(learn)
    measure = commands.add_parser(
        "adapter-evidence", parents=[common], help="measure an adapter on the small flow world"
    )
    adapter_evidence.add_adapter_evidence(measure)
    together = commands.add_parser(
        "two-evidence", parents=[common], help="measure two concepts in one picture on the small flow world"
    )
    two_evidence.add_two_evidence(together)
    add_world(commands.add_parser("world", help="the small world itself"), common)
    tell_defaults(parser)
    return parser


def add_kind(parser: argparse.ArgumentParser) -> None:
    """The option that chooses a small world."""
    parser.add_argument("--world", choices=tuple(DEFAULTS), default=UNET, help="a small U-Net, or a small MM-DiT")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Options of `train`."""
    parser.set_defaults(run=train.train)
    add_kind(parser)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures of one thing")
    parser.add_argument("--noun", required=True, help="what kind of thing it is, in one word of the small world")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the concept, .safetensors")
    parser.add_argument("--trigger", help="word for the concept in prompts of other programs; default: my<noun>")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished training beside --out")
    parser.add_argument("--restart", action="store_true", help="begin anew over an unfinished training")
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS", help="how often it is kept")
    parser.add_argument("--rank", dest="file_rank", default="16", metavar="N", help="factors kept in the file, or full")
    parser.add_argument("--class-pictures", type=Path, metavar="DIR", help="pictures of the kind, for the prior")
    numbers = parser.add_argument_group("settings")
    for name in ("steps", "batch", "accumulation", "modifier-tokens", "warmup-steps", "seed"):
        numbers.add_argument(f"--{name}", type=int)
    for name in ("learning-rate", "context-factor", "weight-decay", "clip-norm", "prior-weight", "flip-probability"):
        numbers.add_argument(f"--{name}", type=float)
    numbers.add_argument("--train-rank", dest="rank", type=int, help="train factors; default: full rank")
    for name, choices in CHOICES.items():
        numbers.add_argument(f"--{name}", choices=choices)
    numbers.add_argument("--prefix", help="words that the contexts before the concept start from")
    numbers.add_argument("--suffix", help="words that the contexts after it start from")
    numbers.add_argument(
        "--no-contexts", dest="contexts", action="store_false", default=None, help="Custom Diffusion's training"
    )


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Options of `sample`."""
    parser.set_defaults(run=sample.sample)
    add_kind(parser)
    parser.add_argument("--concept", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--prompt", action="append", required=True, help="with {concept} in it; several make several rows"
    )
    parser.add_argument(
        "--auxiliary",
        default=AUTO,
        metavar="NOUN",
        help="an ordinary noun for DCI's second branch, as cat; auto: one that fits",
    )
    parser.add_argument("--plain", action="store_true", help="without DCI")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".png, .jpg or .webp")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture")
    parser.add_argument("--count", type=int, default=4, help="pictures of each prompt")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of --seed and --count")
    parser.add_argument("--concept-strength", type=float, default=1.0, help="of the concept's weight changes")
    parser.add_argument("--window", type=float, help="part of the schedule in which DCI acts, 0..1; 0 is off")
    parser.add_argument("--strength", type=float, help="1 balanced, more gives the context more room")
    parser.add_argument("--guidance", choices=GUIDANCE)
    parser.add_argument("--gain", choices=GAINS)
    parser.add_argument("--layers", dest="layer_text", help="as in `all`, `in1-3:0.5 mid`, `double0-1`")
    parser.add_argument("--cfg", type=float)
    parser.add_argument("--steps", dest="num_steps", type=int)
    parser.add_argument("--sampler", choices=tuple(SAMPLERS))
    parser.add_argument("--spacing", choices=tuple(SPACINGS))
    parser.add_argument("--eta", type=float, help="fresh noise of ddim, 0..1")


def add_concepts(commands: argparse._SubParsersAction[Parser], plain: Parser, common: Parser) -> None:
    """Options of `concepts`, `info`, `export` and `import`."""
    listed = commands.add_parser("concepts", parents=[plain], help="the concept files of a folder and those below it")
    listed.add_argument("folder", type=Path, metavar="DIR")
    listed.set_defaults(run=concepts.list_folder)
    info = commands.add_parser("info", parents=[common], help="what a concept file holds")
    info.add_argument("concept", type=Path)
    info.set_defaults(run=concepts.info)
    export = commands.add_parser("export", parents=[common], help="a concept to a plain LoRA and a plain embedding")
    export.add_argument("concept", type=Path)
    export.add_argument("--lora", type=Path, metavar="FILE", help="the LoRA, .safetensors")
    export.add_argument("--embedding", type=Path, metavar="FILE", help="the embedding, .safetensors")
    export.add_argument("--rank", dest="file_rank", default="16", metavar="N", help="factors of the LoRA")
    export.set_defaults(run=concepts.export)
    bring = commands.add_parser("import", parents=[common], help="Custom Diffusion's weights to a concept file")
    bring.add_argument(
        "weights_file", type=Path, metavar="FILE", help=".safetensors of diffusers, or the original .ckpt"
    )
    bring.add_argument("--embedding", type=Path, nargs="*", default=[], metavar="FILE", help="its <new1> files")
    bring.add_argument(
        "--base", type=Path, metavar="FILE", help="the model it was trained on; default: the small world"
    )
    bring.add_argument("--family", default="tiny", help=f"the kind of model: {', '.join(FAMILIES)}")
    bring.add_argument("--noun", required=True)
    bring.add_argument("--trigger", required=True)
    bring.add_argument("--out", type=Path, required=True, metavar="FILE")
    bring.add_argument("--rank", dest="file_rank", default="16", metavar="N", help="factors kept, or full")
    bring.set_defaults(run=concepts.bring)


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """Options of `evidence`."""
    parser.set_defaults(run=evidence.evidence)
    add_kind(parser)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under 20 minutes on two cores (the default)")
    size.add_argument("--full", action="store_true", help="a night on a CPU, or a GPU")
    size.add_argument("--many", action="store_true", help="48 test objects, the dials alone: two hours on two cores")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"goes on with what is there; default: {evidence.USUAL_OUT[UNET]}, or {evidence.USUAL_OUT[FLOW]}",
    )
    parser.add_argument(
        "--study",
        help=f"some of a (training), b (inference), c (anatomy), judge, choice, forms, dial, equal, stop, layout, "
        f"claim (b without controls, objects by what the base had seen); default: {USUAL}, and claim for --many; "
        f"of the small MM-DiT some of gates, b, choice, default: {FLOW_USUAL}",
    )
    parser.add_argument("--references", choices=KINDS, default=GROUND.kind, help="where reference pictures are from")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after so long; the same command goes on")
    parser.add_argument(
        "--power",
        type=Path,
        metavar="FILE",
        help="measure nothing: from a finished study's summary.json, what 48 objects (--concepts N) would decide",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: as many as cores")
    parser.add_argument("--concepts", type=int, metavar="N", help="at most so many concepts in each study")
    parser.add_argument("--seeds", type=int, metavar="N", help="at most so many seeds in each study")
    parser.add_argument("--concepts-in", type=Path, metavar="DIR", help="trained concepts, shared between studies")


def add_world(parser: argparse.ArgumentParser, common: Parser) -> None:
    """Options of `world gates`, `world scenes` and `world pictures`."""
    parts = parser.add_subparsers(required=True, metavar="PART", parser_class=Parser)
    gates = parts.add_parser("gates", parents=[common], help="measure whether it is a fair ground")
    gates.add_argument(
        "--concepts",
        type=int,
        default=20,
        metavar="N",
        help="how many held-out objects to learn, twice each (0..20; about 2 min each on two cores)",
    )
    gates.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that learn")
    gates.set_defaults(run=world.gates)
    scenes = parts.add_parser("scenes", parents=[common], help="draw objects in all places, as the first workflow does")
    scenes.add_argument(
        "--objects", type=int, nargs="+", default=list(range(8)), metavar="N", help="numbers of development objects"
    )
    scenes.add_argument("--kinds", choices=("varied", "home"), nargs="+", default=["home"], help="reference pictures")
    scenes.add_argument("--windows", type=float, nargs="+", default=[0.3, 0.5], metavar="W", help="of DCI")
    scenes.add_argument("--out", type=Path, required=True, metavar="DIR", help="where learned concepts are kept")
    scenes.set_defaults(run=world.scenes)
    pictures = parts.add_parser("pictures", parents=[common], help="write an object's reference pictures")
    pictures.add_argument("--concept", type=int, default=0, metavar="N", help="number of the object")
    pictures.add_argument("--kind", choices=KINDS, default="varied", help="many places, or one")
    pictures.add_argument("--out", type=Path, required=True, metavar="DIR")
    pictures.set_defaults(run=world.pictures)
