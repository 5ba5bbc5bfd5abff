"""The command `evidence`: does it do what it claims, and where does it stop? Measured on the small world."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ..errors import BadSettings
from ..files import write_bytes
from ..studies.dci import protocol
from ..studies.dci.cells import Bench
from ..studies.dci.ground import Shelf, hash_files
from ..studies.dci.power import leads_of, power_table
from ..studies.dci.store import Store
from ..studies.dci.study import CLAIM, JUDGE_PARTS, USUAL, Plan, carry_out, read_studies, still_to_do
from ..studies.dci.summary import summarise, write_tables
from ..studies.flow import protocol as flow_protocol
from ..studies.flow import study as flow_study
from ..studies.flow.study import FlowPlan, summarise_flow, write_flow_tables
from ..studies.worlds import PARTS
from ..tiny.defaults import FLOW, UNET
from .console import Console
from .places import check_folder
from .tiny_world import FAMILY, TinyWorld

MOST_WORKERS = 256
USUAL_OUT = {UNET: Path("out/evidence"), FLOW: Path("out/evidence-flow")}


def evidence(options: Namespace, console: Console) -> int:
    """Does what is left of the study and writes its tables, plots, report and summary."""
    if options.power is not None:
        return tell_power(options.power, options.concepts or len(protocol.MORE_TEST), console)
    plan = plan_from(options)
    workers, device = choose_workers(options.workers), choose_device()
    check_weights(options.weights, options.world)
    check_plots()
    folder = check_folder(options.out or USUAL_OUT[options.world])
    store = Store.open(folder, plan.about(options.weights))
    parts = hash_files(options.weights, PARTS[options.world])
    shelf = Shelf(options.concepts_in or folder / "concepts", parts, FAMILY[options.world])
    todo = still_to_do(plan, store, shelf)
    console.say(
        f"{plan.size.name} study {', '.join(plan.studies)}: {len(todo.lessons)} trainings and {len(todo.cells)} cells "
        f"to do, {len(store.results)} done before; {workers} at a time on {device}"
    )
    started = time.perf_counter()
    bench = Bench(options.weights, shelf, device, options.world)
    with one_thread(device), console.bar(todo.cost, "evidence") as bar:
        for cost in carry_out(todo, bench, store, workers if device == "cpu" else 1):
            bar.update(cost)
            if options.minutes is not None and time.perf_counter() - started > 60 * options.minutes:
                break
    seconds = time.perf_counter() - started
    left = len(still_to_do(plan, store, shelf).cells)
    if left:
        told = f"{left} cells are left after {seconds / 60:.1f} minutes; the same command goes on"
        console.result({"left": left}, told)
        return 0
    return publish(plan, store, folder, options, seconds, console)


def publish(
    plan: Plan | FlowPlan, store: Store, folder: Path, options: Namespace, seconds: float, console: Console
) -> int:
    """Tables, summary, plots and report from the finished cells."""
    from ..studies.dci.plots import draw_plots  # matplotlib takes its time to load, and no other command needs it
    from ..studies.dci.report import write_report
    from ..studies.flow.report import write_flow_report

    if isinstance(plan, FlowPlan):
        summary = summarise_flow(plan, store.results, hash_files(options.weights, flow_study.JUDGE_PARTS))
        write_flow_tables(plan, store.results, folder)
        report = write_flow_report(summary, draw_plots(summary, folder))
        return write_study(summary, report, folder, seconds, console)
    summary = summarise(plan, store.results, hash_files(options.weights, JUDGE_PARTS))
    write_tables(plan, store.results, folder)
    report = write_report(summary, draw_plots(summary, folder))
    return write_study(summary, report, folder, seconds, console)


def write_study(summary: Mapping[str, Any], report: str, folder: Path, seconds: float, console: Console) -> int:
    """Summary and report stand in the folder, and the report is shown; raises NotSaved."""
    write_bytes(folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    write_bytes(folder / "report.md", report.encode())
    console.result(summary, f"{report}\n{seconds / 60:.1f} minutes; all of it is in {folder}")
    return 0


def plan_from(options: Namespace) -> Plan | FlowPlan:
    """What was asked for; raises BadSettings."""
    name = "full" if options.full else "many" if options.many else "quick"
    if options.world == FLOW:
        ground = replace(flow_protocol.GROUND, kind=options.references)
        return FlowPlan(
            flow_size(name, options), ground, read_studies(options.study or flow_study.USUAL, flow_study.STUDIES)
        )
    studies = read_studies(options.study or (CLAIM if options.many else USUAL))
    return Plan(sized(protocol.SIZES[name], options), replace(protocol.GROUND, kind=options.references), studies)


def flow_size(name: str, options: Namespace) -> flow_protocol.FlowSize:
    """The small MM-DiT's size of that name; raises BadSettings."""
    if name not in flow_protocol.SIZES:
        raise BadSettings(f"--{name} came with --world {FLOW}", "--quick or --full is expected there", "choose one")
    return sized(flow_protocol.SIZES[name], options)


class Sized(Protocol):
    """A study's size, which can be cut."""

    def with_concepts(self: S, count: int) -> S:
        """At most so many concepts."""

    def with_seeds(self: S, count: int) -> S:
        """At most so many seeds."""


S = TypeVar("S", bound=Sized)


def sized(size: S, options: Namespace) -> S:
    """The size with what the options cut off; raises BadSettings."""
    if options.concepts is not None:
        size = size.with_concepts(options.concepts)
    return size if options.seeds is None else size.with_seeds(options.seeds)


def tell_power(path: Path, objects: int, console: Console) -> int:
    """What so many objects would decide, from a finished study; raises BadSettings where there is none."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        told = power_table(summary, objects)
    except (OSError, ValueError, KeyError) as error:
        raise BadSettings(
            f'"{path.name}" holds no study of the dials', "summary.json of `evidence` was expected", "change --power"
        ) from error
    console.result({"leads": [asdict(lead) for lead in leads_of(summary)]}, told)
    return 0


def choose_workers(asked: int | None) -> int:
    """As many as asked, or as cores that this process may use; raises BadSettings."""
    if asked is not None and not 1 <= asked <= MOST_WORKERS:
        raise BadSettings(f"{asked} workers were asked for", f"1 to {MOST_WORKERS} were expected", "change --workers")
    if asked is not None:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_weights(folder: Path, kind: str) -> None:
    """Nothing, or BadModel (from the small world): workers must not be the ones to find out."""
    tiny_world = TinyWorld(folder, kind)
    for part in (tiny_world.model, tiny_world.codec, tiny_world.judge):
        assert part is not None


def check_plots() -> None:
    """Nothing, or BadSettings where the library for plots is missing: hours of work must not end there."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BadSettings("matplotlib is not installed", "the plots need it", 'pip install "ico-dci[headless]"')


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """One torch thread while this lasts: the model is so small that several only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
