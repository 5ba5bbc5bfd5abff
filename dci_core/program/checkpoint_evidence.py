"""The command `checkpoint-evidence`: DCI against plain dials on a real checkpoint, through a running ComfyUI."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from ..errors import BadSettings
from ..files import write_bytes
from ..score.folders import CLIP, class_name
from ..studies.dci.protocol import asked_for
from ..studies.dci.store import Store
from ..studies.served.client import Server
from ..studies.served.datasets import Subject, read_subjects
from ..studies.served.graphs import Base
from ..studies.served.report import summarise, write_report
from ..studies.served.study import Bench, Plan, carry_out
from .console import Console
from .places import check_folder
from .score import load_judges, read_device


def add_checkpoint_evidence(parser: ArgumentParser) -> None:
    """Options of `checkpoint-evidence`."""
    parser.set_defaults(run=checkpoint_evidence)
    parser.add_argument("--server", default="http://127.0.0.1:8188", metavar="URL", help="a running ComfyUI")
    parser.add_argument("--checkpoint", required=True, metavar="NAME", help="as its Load Checkpoint lists it")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="DreamBooth's set, or CustomConcept101")
    parser.add_argument("--clip", type=Path, required=True, metavar="DIR", help="a CLIP model's folder")
    parser.add_argument("--dino", type=Path, metavar="DIR", help="a DINO or DINOv2 model's folder, for likeness")
    parser.add_argument(
        "--out", type=Path, default=Path("out/checkpoint-evidence"), metavar="DIR", help="goes on with what is there"
    )
    parser.add_argument("--subjects", type=int, metavar="N", help="the first N; default: all whose pictures are there")
    parser.add_argument("--prompts", type=int, metavar="N", help="the first N of each subject; default: all")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="0 to N - 1, for each prompt")
    parser.add_argument("--steps", type=int, default=900, help="of training: the dials' own checkpoint")
    parser.add_argument(
        "--auxiliary", default="cat", metavar="NOUN", help="of DCI's second branch; of another kind for a cat"
    )
    parser.add_argument("--size", type=int, default=512, help="of all pictures, px; 1024 for SDXL")
    parser.add_argument("--num-steps", type=int, default=30, help="of sampling")
    parser.add_argument("--cfg", type=float, default=6.0)
    parser.add_argument("--sampler", default="euler", metavar="NAME", help="as KSampler lists it")
    parser.add_argument("--scheduler", default="normal", metavar="NAME", help="as KSampler lists it")
    parser.add_argument("--negative", default="", metavar="TEXT", help="the negative prompt")
    parser.add_argument("--device", metavar="NAME", help="of the encoders; default: cuda where there is one")


def checkpoint_evidence(options: Namespace, console: Console) -> int:
    """Does what is left of the study, then writes its report and summary."""
    class_name(options.clip, CLIP)  # a wrong folder is told before anything is trained
    plan, server = plan_from(options), Server(options.server.rstrip("/"))
    if options.checkpoint not in (known := server.checkpoints()):
        told = ", ".join(known[:8]) or "none"
        raise BadSettings(
            f'the server lists no checkpoint "{options.checkpoint}"',
            f"one of {told} is expected",
            "change --checkpoint",
        )
    judges = load_judges(options, read_device(options.device))
    folder = check_folder(options.out)
    bench = Bench(server, judges, Store.open(folder, plan.about(judges)), folder / "pictures")
    done = plan.cells - plan.left(bench.store)
    console.say(f"{len(plan.subjects)} subjects, {plan.cells} settings to draw, {done} done before")
    with console.bar(plan.cells, "checkpoint-evidence", done) as bar:
        for _ in carry_out(plan, bench, console.say):
            bar.update(1)
    summary = summarise(plan, bench.store.results, server.device())
    report = write_report(summary)
    write_bytes(folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    write_bytes(folder / "report.md", report.encode())
    console.result(summary, f"{report}\nall of it is in {folder}")
    return 0


def plan_from(options: Namespace) -> Plan:
    """What was asked for; raises BadSettings, BadPicture."""
    subjects = read_subjects(options.data)
    if options.subjects is not None:
        subjects = subjects[: asked_for(options.subjects, "subjects", len(subjects))]
    for name, least in (("steps", 4), ("num_steps", 1), ("seeds", 1), ("size", 64)):
        if getattr(options, name) < least:
            asked = f"--{name.replace('_', '-')}"
            raise BadSettings(f"{asked} is {getattr(options, name)}", f"{least} or more is expected", f"change {asked}")
    base = Base(
        checkpoint=options.checkpoint,
        size=options.size,
        num_steps=options.num_steps,
        cfg=options.cfg,
        sampler=options.sampler,
        scheduler=options.scheduler,
        negative=options.negative,
    )
    subjects = alike(subjects, options.prompts)
    return Plan(base, subjects, tuple(range(options.seeds)), options.steps, options.auxiliary)


def alike(subjects: list[Subject], prompts: int | None) -> list[Subject]:
    """The subjects with as many prompts each: so many, or as many as every one has."""
    most = min(len(subject.prompts) for subject in subjects)
    count = most if prompts is None else asked_for(prompts, "prompts", most)
    return [replace(subject, prompts=subject.prompts[:count]) for subject in subjects]
