"""The command `two-evidence`: two learned concepts in one picture, measured on the small flow world."""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from pathlib import Path

from ..errors import BadSettings
from ..studies.dci.ground import hash_files
from ..studies.dci.store import Store
from ..studies.two import protocol
from ..studies.two.bench import TwoBench
from ..studies.two.report import write_report
from ..studies.two.study import JUDGE_PARTS, carry_out, plan_of, still_to_do, summarise
from ..version import VERSION
from .adapter_evidence import check_weights
from .console import Console
from .evidence import choose_workers, one_thread, write_study
from .places import check_folder

SIZE_HELP = {
    "quick": "3 pairs (the default); about 20 minutes on two cores, most of it learning the concepts",
    "full": "12 pairs; about an hour and a half on two cores",
    "development": "the pairs on which the rule was chosen",
}


def add_two_evidence(parser: argparse.ArgumentParser) -> None:
    """Options of `two-evidence`."""
    parser.set_defaults(run=two_evidence, size="quick")
    sizes = parser.add_mutually_exclusive_group()
    for name, told in SIZE_HELP.items():
        sizes.add_argument(f"--{name}", dest="size", action="store_const", const=name, help=told)
    parser.add_argument(
        "--out", type=Path, default=Path("out/two-evidence"), metavar="DIR", help="goes on with what is there"
    )
    parser.add_argument("--concepts-in", type=Path, metavar="DIR", help="learned concepts, shared between studies")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after so long; the same command goes on")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: as many as cores")
    parser.add_argument("--pairs", type=int, metavar="N", help="at most so many pairs")
    parser.add_argument("--seeds", type=int, metavar="N", help="at most so many seeds")


def two_evidence(options: Namespace, console: Console) -> int:
    """Does what is left of the study and writes its report and summary."""
    size = protocol.SIZES[options.size]
    size = size if options.pairs is None else size.with_pairs(options.pairs)
    size = size if options.seeds is None else size.with_seeds(options.seeds)
    if options.minutes is not None and not options.minutes > 0:
        raise BadSettings(f"--minutes is {options.minutes}", "a number above 0 was expected", "change it")
    workers = choose_workers(options.workers)
    check_weights(options.weights)
    plan, folder = plan_of(size), check_folder(options.out)
    store = Store.open(folder, plan.about(options.weights))
    bench = TwoBench(options.weights, options.concepts_in or folder / "concepts")
    lessons, cells = still_to_do(plan, store, bench)
    console.say(
        f"{size.name} study of {len(plan.pairs())} pairs: {len(lessons)} trainings and {len(cells)} cells to do, "
        f"{len(store.results)} done before; {workers} at a time"
    )
    started, total = time.perf_counter(), sum(each.cost for each in lessons) + sum(cell.cost for _, cell in cells)
    with one_thread("cpu"), console.bar(total, "two concepts") as bar:
        for cost in carry_out(lessons, cells, bench, store, workers):
            bar.update(cost)
            if options.minutes is not None and time.perf_counter() - started > 60 * options.minutes:
                break
    left = sum(key not in store.results for key in plan.cells())
    if left:
        console.result({"left": left}, f"{left} cells are left; the same command goes on")
        return 0
    summary = summarise(plan, store.results, hash_files(options.weights, JUDGE_PARTS), VERSION)
    return write_study(summary, write_report(summary), folder, time.perf_counter() - started, console)
