"""Two things timed side by side: A and B by turns in one run, so that a busy or a slow machine moves both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Work = Callable[[], object]
LEAST_PAIRS = 3


class Unmeasured(Exception):
    """This case cannot be measured here; its sentence says why."""


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure.

    seconds  that one case may take, warm-up and loading left out
    is_full  whether the large shapes, batches and peak memory are asked for
    profiles whether to print where the subject's own time goes, and the base's
    """

    device: torch.device
    dtype: torch.dtype
    seconds: float = 45.0
    is_full: bool = False
    profiles: bool = False


@dataclass(frozen=True)
class Figure:
    """One line of the bench.

    ratio    median over pairs of subject / base; None where there is nothing to set it against
    seconds  median of the subject
    spread   half the distance between the ratio's quartiles (of the seconds' where there is no ratio)
    what     what was set against what, scheduler and batch named
    target   what the ratio (or, without one, the seconds) should not pass
    """

    case: str
    ratio: float | None
    seconds: float | None
    spread: float
    device: str
    dtype: str
    what: str = ""
    target: float | None = None


def side_by_side(
    bench: Bench, case: str, subject: Work, base: Work, *, what: str, target: float | None = None, most: int = 25
) -> Figure:
    """The subject against the base, in the order A B, B A, A B ...; both ran once before, unseen."""
    subject(), base()
    for name, work in (("subject", subject), ("base", base)) if bench.profiles else ():
        print(f"{case}, {name}:\n{profile_of(work)}")
    first, second = [subject, base], [base, subject]
    times: list[tuple[float, float]] = []
    started = time.perf_counter()
    while len(times) < most and (len(times) < LEAST_PAIRS or time.perf_counter() - started < bench.seconds):
        order = first if len(times) % 2 == 0 else second
        took = {work: seconds_of(bench, work) for work in order}
        times.append((took[subject], took[base]))
    ratios = [a / b for a, b in times]
    median = statistics.median(a for a, _ in times)
    where = (str(bench.device.type), str(bench.dtype).removeprefix("torch."))
    what = f"{what}; {len(times)} pairs"
    return Figure(case, statistics.median(ratios), median, half_quartiles(ratios), *where, what, target)


def alone(bench: Bench, case: str, subject: Work, *, what: str, target: float | None = None, most: int = 15) -> Figure:
    """Seconds of one thing, for a target in seconds."""
    subject()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < most and (len(times) < LEAST_PAIRS or time.perf_counter() - started < bench.seconds):
        times.append(seconds_of(bench, subject))
    where = (str(bench.device.type), str(bench.dtype).removeprefix("torch."))
    return Figure(case, None, statistics.median(times), half_quartiles(times), *where, what, target)


def profile_of(work: Work) -> str:
    """Where one call's time goes, by kernel."""
    with torch.profiler.profile() as profile:
        work()
    return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=32)


def seconds_of(bench: Bench, work: Work) -> float:
    """Time of one call, the device's queue included."""
    settle(bench)
    started = time.perf_counter()
    work()
    settle(bench)
    return time.perf_counter() - started


def settle(bench: Bench) -> None:
    """Waits for an accelerator to finish."""
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


def half_quartiles(values: list[float]) -> float:
    """Half the distance between the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def peak_bytes(bench: Bench, work: Work) -> int:
    """Most memory that an accelerator held during one call; raises Unmeasured on a CPU."""
    if bench.device.type != "cuda":
        raise Unmeasured("peak memory of one call is only counted on a GPU")
    torch.cuda.reset_peak_memory_stats()
    work()
    settle(bench)
    return int(torch.cuda.max_memory_allocated())
