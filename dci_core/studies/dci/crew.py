"""The workers: lessons first, then cells, in as many processes as asked; each finished piece is told at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol, TypeVar

import torch

from ... import errors
from ...errors import PackError
from .judge_scores import Numbers

Tools = TypeVar("Tools")
Tools_contra = TypeVar("Tools_contra", contravariant=True)
_bench: Any = None  # a worker process's own tools


class Job(Protocol[Tools_contra]):
    """One piece of work: a lesson, or a cell."""

    def play(self, bench: Tools_contra) -> Numbers:
        """Its numbers; none of a lesson, which leaves checkpoints."""


@dataclass(frozen=True)
class Failed:
    """An error's three facts; exceptions of several arguments do not travel between processes."""

    kind: str
    came: str
    expected: str
    do: str

    def back(self) -> PackError:
        """The error again."""
        return getattr(errors, self.kind, PackError)(self.came, self.expected, self.do)


def play(bench: Tools, job: Job[Tools]) -> Numbers:
    """The job's numbers."""
    return job.play(bench)


def work(bench: Tools, jobs: Sequence[Job[Tools]], workers: int) -> Iterator[tuple[int, Numbers]]:
    """(index, numbers) of every job as it ends; raises the first PackError. One worker works in this process."""
    if workers == 1 or len(jobs) <= 1:
        for i, job in enumerate(jobs):
            yield i, play(bench, job)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=begin_worker, initargs=(bench,))
    try:
        waiting: dict[Future[Any], int] = {pool.submit(play_here, job): i for i, job in enumerate(jobs)}
        for done in as_completed(waiting):
            try:
                found = done.result()
            except BrokenProcessPool as error:
                raise PackError(
                    "a worker process ended", "it was expected to work on", "run the same command again: it goes on"
                ) from error
            if isinstance(found, Failed):
                raise found.back()
            yield waiting[done], found
    finally:
        stop_all(pool)


def stop_all(pool: ProcessPoolExecutor) -> None:
    """Ends workers that are still at something nobody waits for; what they would have written is whole or not there."""
    processes = list((getattr(pool, "_processes", None) or {}).values())  # shutdown forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def begin_worker(bench: object) -> None:
    """A worker computes in one thread, leaves Ctrl-C to the parent, and ends when the parent does."""
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=end_with, args=(parent.sentinel,), daemon=True).start()
    _bench = bench


def end_with(sentinel: int) -> None:
    """Ends this process when the parent has ended."""
    wait([sentinel])
    os._exit(1)


def play_here(job: Job[Any]) -> Numbers | Failed:
    """`play` in a worker process."""
    try:
        return play(_bench, job)
    except PackError as error:
        return Failed(type(error).__name__, error.came, error.expected, error.do)
