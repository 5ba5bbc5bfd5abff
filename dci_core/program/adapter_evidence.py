"""The command `adapter-evidence`: what an image prompt adapter does, measured on the small flow world."""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from pathlib import Path

import torch

from ..dynaip.adapter_file import read_training
from ..errors import BadAdapter
from ..studies.dci.ground import hash_files, hash_paths
from ..studies.dci.store import Store
from ..studies.dynaip import protocol
from ..studies.dynaip.bench import FlowBench, open_adapter
from ..studies.dynaip.study import PARTS, Plan, carry_out, cost_of, still_to_do
from ..studies.dynaip.summary import summarise, write_tables
from ..studies.dynaip.ways import Adapters
from .bases import open_tiny
from .console import Console
from .evidence import check_plots, choose_device, choose_workers, one_thread, write_study
from .places import check_folder
from .tiny_world import TinyWorld

SHIPPED = "adapter"  # its name among the weights
QUICK_HELP, FULL_HELP = "under 15 minutes on two cores (the default)", "a night on a CPU, or a GPU"


def add_adapter_evidence(parser: argparse.ArgumentParser) -> None:
    """Options of `adapter-evidence`."""
    parser.set_defaults(run=adapter_evidence)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=QUICK_HELP)
    size.add_argument("--full", action="store_true", help=FULL_HELP)
    parser.add_argument("--adapter", type=Path, metavar="FILE", help=f"default: {SHIPPED}.safetensors of the weights")
    parser.add_argument("--last-layer", type=Path, metavar="FILE", help="an adapter of one level, trained apart")
    parser.add_argument(
        "--out", type=Path, default=Path("out/adapter-evidence"), metavar="DIR", help="goes on with what is there"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: as many as cores")
    parser.add_argument("--concepts", type=int, metavar="N", help="at most so many concepts, and pairs of them")
    parser.add_argument("--seeds", type=int, metavar="N", help="at most so many seeds in each part")


def adapter_evidence(options: Namespace, console: Console) -> int:
    """Does what is left of the study and writes its tables, plots, report and summary."""
    size = size_from(options)
    workers, device = choose_workers(options.workers), choose_device()
    files = {"main": main_adapter(options)}
    if options.last_layer is not None:
        files["last_layer"] = options.last_layer
    check_weights(options.weights)
    names = {name: check_adapter(path) for name, path in files.items()}
    check_plots()
    plan, folder = Plan(size, Adapters(**names)), check_folder(options.out)
    store = Store.open(folder, plan.about(options.weights))
    todo = still_to_do(plan, store)
    told = f"{size.name} study of {files['main'].name}: {len(todo)} cells to do, {len(store.results)} done before"
    console.say(f"{told}; {workers} at a time on {device}")
    bench = FlowBench(options.weights, {names[which]: path for which, path in files.items()}, device)
    started = time.perf_counter()
    with one_thread(device), console.bar(cost_of(todo), "adapter evidence") as bar:
        for cost in carry_out(todo, bench, store, workers if device == "cpu" else 1):
            bar.update(cost)
    return publish(plan, store, options, time.perf_counter() - started, console)


def publish(plan: Plan, store: Store, options: Namespace, seconds: float, console: Console) -> int:
    """Tables, summary, plots and report from the finished cells."""
    from ..studies.dynaip.plots import draw_plots  # matplotlib takes its time to load
    from ..studies.dynaip.report import write_report

    own = float(read_training(main_adapter(options)).get("same_picture", 0.0))
    summary = summarise(plan, store.results, hash_files(options.weights, PARTS), own)
    write_tables(plan, store.results, store.folder)
    report = write_report(summary, draw_plots(summary, store.folder))
    return write_study(summary, report, store.folder, seconds, console)


def main_adapter(options: Namespace) -> Path:
    """The file of the adapter on trial: the one that was named, or the shipped one."""
    return options.adapter or options.weights / f"{SHIPPED}.safetensors"


def size_from(options: Namespace) -> protocol.Size:
    """What was asked for; raises BadSettings."""
    size = protocol.SIZES["full" if options.full else "quick"]
    size = size if options.concepts is None else size.with_concepts(options.concepts)
    return size if options.seeds is None else size.with_seeds(options.seeds)


def check_weights(folder: Path) -> None:
    """Nothing, or BadModel: workers must not be the ones to find out."""
    open_tiny(folder, torch.device("cpu"))
    assert TinyWorld(folder).judge is not None


def check_adapter(path: Path) -> str:
    """The fingerprint of an adapter for the small flow world; raises BadAdapter."""
    if not path.is_file():
        raise BadAdapter(
            f'there is no adapter "{path.name}"',
            "a trained adapter of the small flow world was expected",
            "train one with `adapter-train`, and name it with --adapter (--last-layer for one of the last level)",
        )
    open_adapter(path)
    return hash_paths([path])
