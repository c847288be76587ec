"""Several trainings at once: jobs of a run in processes of this machine.

On a CPU two processes with one thread each train faster than one process with two threads (small
products do not share well), and do not stall when the machine is busy with something else.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType

import torch

from potstill.config import RunFile
from potstill.core.device import Device, resolve_device
from potstill.core.errors import ResourceError
from potstill.core.progress import Bar, Progress, StopSignal
from potstill.core.stages import STAGES_FOLDER
from potstill.pipeline.jobs import Job
from potstill.pipeline.run import Run

_POLL_SECONDS = 0.2
_SECONDS_TO_SAVE = 20.0
_MOST_BY_DEFAULT = 2  # each worker holds a network, its optimiser state and torch itself


def default_workers(device: Device) -> int:
    """How many processes train at once: two on a CPU with two cores or more, else one."""
    return 1 if device.torch.type != "cpu" else min(_MOST_BY_DEFAULT, os.cpu_count() or 1)


@contextmanager
def open_run(
    asked: RunFile, progress: Progress, *, skip_bad_rows: int, n_workers: int | None
) -> Iterator[Run]:
    """A run whose trainings are shared among processes, which end with the block.

    Args:
        asked: The run file.
        progress: Where to report.
        skip_bad_rows: How many faulty rows each source may have.
        n_workers: Processes at once; 1 trains in this process; None: :func:`default_workers`.
    """
    if n_workers is None:
        n_workers = default_workers(resolve_device(asked.device, asked.precision))
    if n_workers == 1:
        yield Run(asked, progress, skip_bad_rows=skip_bad_rows)
        return
    team = LocalProcesses(asked, progress, n_workers, skip_bad_rows=skip_bad_rows)
    try:
        if not (Path(asked.output) / STAGES_FOLDER).exists():  # so there is work for them
            team.warm_up()
        yield Run(asked, progress, skip_bad_rows=skip_bad_rows, executor=team)
    finally:
        team.close()


class LocalProcesses:
    """Jobs in processes of this machine, each with its share of the cores.

    Args:
        run: The run file; workers read the data themselves.
        progress: Where the workers' bars appear.
        n_workers: Processes at once.
        skip_bad_rows: As the run was opened with.
    """

    def __init__(
        self, run: RunFile, progress: Progress, n_workers: int, *, skip_bad_rows: int
    ) -> None:
        self._asked = (run, skip_bad_rows)
        self._progress = progress
        self._n_workers = n_workers
        self._context = multiprocessing.get_context("spawn")
        self._news: Queue[_News] = self._context.Queue()
        self._stop = self._context.Event()
        self._pool: ProcessPoolExecutor | None = None
        self._used = False

    def close(self) -> None:
        """End the processes; those that train save a checkpoint first."""
        self._stop.set()
        if self._pool is not None:
            if not self._used:  # they may still be starting: nobody need wait for that
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(cancel_futures=True)

    def run(self, jobs: Sequence[Job]) -> None:
        """Do all jobs.

        Raises:
            Stopped: Stop was requested; the workers have saved what they had.
            PotstillError: The first fault of a worker.
        """
        self._progress.stop.check("before the first training")
        pool = self._pool or self._start()
        self._used = True
        fault: BaseException | None = None
        futures: set[Future[None]] = set()
        with _shown(self._news, self._progress):
            try:
                with _deaf_children():
                    for job in jobs:
                        futures.add(pool.submit(_do, job))
            except BrokenProcessPool as error:  # one ended before it had any work
                fault = error
            while futures:
                done, futures = wait(futures, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    if not future.cancelled() and future.exception() is not None:
                        fault = fault or future.exception()
                if fault is not None or self._progress.stop.reason is not None:
                    self._stop.set()
                    for future in futures:
                        future.cancel()
        self._progress.stop.check("work in several processes")
        if isinstance(fault, BrokenProcessPool):
            raise ResourceError(
                "a training process",
                got="it was ended from outside, as systems do when memory runs out",
                wanted="memory for as many trainings as run at once",
                todo="run the same command again with --jobs 1: it continues (in Python: jobs=1, "
                "or a call under `if __name__ == '__main__':`, or no process can start)",
            ) from fault
        if fault is not None:
            raise fault

    def warm_up(self) -> None:
        """Let the processes start, which takes seconds, while this one reads the data."""
        pool = self._pool or self._start()
        with _deaf_children():
            for _ in range(self._n_workers):
                pool.submit(_nothing)

    def _start(self) -> ProcessPoolExecutor:
        threads = max(1, torch.get_num_threads() // self._n_workers)
        arguments = (*self._asked, threads, self._news, self._stop, os.getpid())
        self._pool = ProcessPoolExecutor(
            self._n_workers, mp_context=self._context, initializer=_open, initargs=arguments
        )
        return self._pool


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that start in this block do not hear Ctrl-C, not even before their first line."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# -- the parent's screen ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _News:
    """What a worker says of a bar: its name, total and how far it is; done is None at the end."""

    name: str
    total: float | None
    done: float | None
    info: str = ""


@contextmanager
def _shown(news: Queue[_News], progress: Progress) -> Iterator[None]:
    """Draw the workers' bars while the block runs."""
    over = threading.Event()

    def draw() -> None:
        with progress.bars() as bars:
            while not over.is_set():
                try:
                    one = news.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                bars.show(one.name, one.total, one.done, one.info)

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# -- inside a worker ----------------------------------------------------------------------------


class _Told(Progress):
    """Progress that tells the parent instead of drawing."""

    def __init__(self, news: Queue[_News], stop: StopSignal) -> None:
        super().__init__(quiet=True, stop=stop)
        self._news = news

    def warn(self, text: str) -> None:
        self.log("warning", text=text)  # the parent says it, once

    @contextmanager
    def bar(
        self, name: str, total: float | None, done: float = 0, *, keep: bool = True
    ) -> Iterator[Bar]:
        if not keep:
            yield Bar(None, name, total)
            return
        bar = _ToldBar(self._news, name, total)
        bar.advance(done)
        yield bar
        self._news.put(_News(name, total, None))


class _ToldBar(Bar):
    def __init__(self, news: Queue[_News], name: str, total: float | None) -> None:
        super().__init__(None, name, total)
        self._news, self._name, self._total, self._done = news, name, total, 0.0

    def advance(self, units: float = 1, info: str = "") -> None:
        self._done += units
        self._news.put(_News(self._name, self._total, self._done, info))


class _TeamStop(StopSignal):
    """Stops when the parent says so, or is gone."""

    def __init__(self, event: Event, parent: int) -> None:
        super().__init__()
        self._event, self._parent = event, parent

    @property
    def reason(self) -> str | None:
        if self._event.is_set() or self.requested is not None:
            return "the run was stopped"
        return "the run's main process is gone" if os.getppid() != self._parent else None


_run: Callable[[], Run]
_stop: _TeamStop
_at_work = False


def _open(
    run: RunFile,
    skip_bad_rows: int,
    threads: int,
    news: Queue[_News],
    stop: Event,
    parent: int,
) -> None:
    global _run, _stop  # noqa: PLW0603 (a process of its own)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    _stop = _TeamStop(stop, parent)
    signal.signal(signal.SIGTERM, partial(_terminate, _stop))
    # The data is read with the first job: a fault in it is the parent's to report.
    _run = cache(lambda: Run(run, _Told(news, _stop), skip_bad_rows=skip_bad_rows))


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a worker that waits for jobs would never know."""
    while os.getppid() == parent:
        time.sleep(1.0)
    time.sleep(_SECONDS_TO_SAVE)  # a training that runs stops by itself, with a checkpoint
    os._exit(1)


def _terminate(stop: StopSignal, number: int, frame: FrameType | None) -> None:
    """Save what is being trained, then end: schedulers signal every process of a job at once."""
    stop.requested = signal.Signals(number).name
    if not _at_work:
        os._exit(1)


def _nothing() -> None:
    """A job that only needs a process."""


def _do(job: Job) -> None:
    global _at_work  # noqa: PLW0603 (a process of its own, with one job at a time)
    run = _run()
    _at_work = True
    try:
        run.do(job)
    finally:
        _at_work = False
        if _stop.requested is not None:
            os._exit(1)
